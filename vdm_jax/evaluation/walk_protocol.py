"""Protocol `walk`: FDM's WD and PO of folders of samples, on their map.

    OUT/
      speeds.png     distributions of speeds
      map.png        walks drawn on the map: real ones, then those of each folder
      table.txt      the measures, one column per folder
      results.json   everything

The reference is the second half of the test videos, with positions read by the same
regressor. The first half is measured like a folder of samples, which gives the floor
that a perfect model would reach. The same frames and steps count for real videos as for
samples.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epath

from vdm_jax import text_table
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, positions, protocol, samples, walk
from vdm_jax.metrics import jackknife
from vdm_jax.models.position_regressor import Grid

_SHOWN = 4  # Number of walks of each set on the map.
_READ = "real"
_TRUE = "real, true positions"
TITLES = {
  "speed_distance": "WD: speeds, Wasserstein-1",
  "outliers": "PO: outliers among speeds",
  "place_distance": "places, earth mover's distance",
  "through_walls": "steps through a wall",
  "speed": "mean speed, outliers left out",
}


@dataclasses.dataclass(frozen=True)
class WalkProtocol:
  """Measures WD and PO of sampled walks (FDM), with real walks as the floor."""

  name: ClassVar[str] = "walk"

  samples: tuple[str, ...] = protocol.setting(
    (), "folder of samples, a column of the table; may be repeated"
  )
  regressor: str = protocol.setting("", "workdir of the position regressor")
  data: str = protocol.setting("", "data set; default the regressor's")
  data_dir: str = protocol.setting(
    "", "folder of the data sets; default the regressor's"
  )
  split: str = protocol.setting("test", "split of the real videos")
  observed: bool = protocol.setting(
    False, "whether steps between given frames count, too"
  )
  outlier_speed: float = protocol.setting(
    0.0, "speed of outliers, in map units per second; 0: by outlier_factor"
  )
  outlier_factor: float = protocol.setting(
    3.0, "outlier speed in units of the 99th percentile of the split's true speeds"
  )

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Measures all sets of walks and writes table and figures."""
    if not self.samples:
      raise UserError("`samples`: expected one folder of samples or more")
    protocol.check_least(self, outlier_speed=0, outlier_factor=0)
    if not self.outlier_factor:
      raise UserError("`outlier_factor`: expected > 0, found 0")
    reader = positions.load(self.regressor, "regressor")
    found = [samples.load(folder) for folder in self.samples]
    samples.check_alike(found)
    shape = found[0].videos.shape[2:]
    if shape != tuple(reader.system.frame_shape):
      raise UserError(
        f"`samples={found[0].folder}`: frames are {shape}, the regressor reads "
        f"{tuple(reader.system.frame_shape)}"
      )
    source = positions.open_data(reader, self.data, self.data_dir, self.split)
    observed = found[0].observed & (not self.observed)
    real = _Real(source, reader, found[0], observed)
    threshold = self.outlier_speed or self.outlier_factor * real.fast
    sets = real.sets()
    for name, folder in zip(samples.names(self.samples), found, strict=True):
      sets[name] = [
        walk.Walk.of(reader(video)[0], observed, real.fps) for video in folder.videos
      ]
    walls = positions.walls_of(source)
    measures = _measures(real.reference, threshold, reader.grid, walls)
    result = {
      "data": source.full_name,
      "data_fingerprint": source.fingerprint,
      "regressor_step": reader.info["step"],
      "frames": found[0].videos.shape[1],
      "given_frames": np.flatnonzero(found[0].observed).tolist(),
      "steps_counted": int((~(observed[1:] & observed[:-1])).sum()),
      "fps": real.fps,
      "outlier_speed": threshold,
      "reference_videos": len(real.reference),
      "titles": {key: TITLES[key] for key in measures},
      "sets": {
        name: {"videos": len(walks), **_measured(measures, walks)}
        for name, walks in sets.items()
      },
      "records": [dict(folder.record) for folder in found],
    }
    curves = {f"{_READ}, reference": walk.speeds(real.reference)}
    curves |= {name: walk.speeds(walks) for name, walks in sets.items()}
    unit = "map units per second" if source.fps.any() else "map units per frame"
    figures.speeds(out / "speeds.png", curves, threshold, unit)
    figures.walks(
      out / "map.png",
      {name: [w.position for w in walks[:_SHOWN]] for name, walks in sets.items()},
      walls=walls,
      bounds=reader.grid.bounds,
      longest=threshold / real.fps,
    )
    return protocol.Outcome(result, _table(result, unit))


class _Real:
  """The real walks of a split.

  Attributes:
    fps: frames per second of samples and real walks; 1 if unknown.
    reference: walks that everything is compared with, by positions as read.
    floor: other real walks, by positions as read; none if there is only one video.
    true: walks of the floor (or of the reference) by their true positions.
    fast: 99th percentile of the true speeds.
  """

  def __init__(self, source, reader, like: samples.Samples, observed: np.ndarray):
    stride, length = like.stride, like.videos.shape[1]
    self.fps = float(np.median(source.fps)) / stride or 1.0
    read, true = [], []
    for video in range(source.num_videos):
      # Samples may be longer than every real video.
      frames = np.arange(0, source.lengths[video], stride)[:length]
      name = reader.system.extra
      (found,) = source.read_many([(video, frames)], ("frames", name))
      position = found[name][:, :2].astype(np.float64)
      true.append(walk.Walk.of(position, observed, self.fps))
      read.append(walk.Walk.of(reader(found["frames"])[0], observed, self.fps))
    speeds = walk.speeds(true)
    if not len(speeds):
      raise UserError(
        f"{source.full_name} {source.split}: no video goes on after the "
        f"{int(observed.sum())} given frames of the samples"
      )
    self.fast = float(np.quantile(speeds, 0.99))
    half = len(read) // 2
    self.floor, self.reference = read[:half], read[half:]
    self.true = true[:half] or true

  def sets(self) -> dict[str, list[walk.Walk]]:
    """Returns the columns of real walks."""
    sets = {_TRUE: self.true}
    return sets | ({_READ: self.floor} if self.floor else {})


def _measures(
  reference: Sequence[walk.Walk], threshold: float, grid: Grid, walls: np.ndarray
) -> dict[str, Callable[[Sequence[walk.Walk]], float]]:
  """Returns the measures of a set of walks, by the keys of `TITLES`."""

  def mean_speed(walks):
    speeds = walk.speeds(walks)
    kept = speeds[speeds <= threshold]
    return float(kept.mean()) if len(kept) else float("nan")

  measures = {
    "speed_distance": lambda w: walk.speed_distance(w, reference, threshold),
    "outliers": lambda w: walk.outliers(w, threshold),
    "place_distance": lambda w: walk.place_distance(w, reference, grid),
    "through_walls": lambda w: walk.through_walls(w, walls),
    "speed": mean_speed,
  }
  if not len(walls):
    del measures["through_walls"]
  return measures


def _measured(measures: Mapping[str, Callable], walks: Sequence[walk.Walk]) -> dict:
  found = {}
  for key, measure in measures.items():
    value, error = jackknife.estimate(
      lambda chosen, measure=measure: measure([walks[i] for i in chosen]), len(walks)
    )
    found[key] = {"value": value, "error": error}
  return found


def _table(result: Mapping[str, Any], unit: str) -> str:
  sets = result["sets"]
  rows = [["", *sets], ["videos", *(str(found["videos"]) for found in sets.values())]]
  for key, title in result["titles"].items():
    percent = key in ("outliers", "through_walls")
    row = [
      text_table.cell(found[key]["value"], found[key]["error"], percent=percent)
      for found in sets.values()
    ]
    rows.append([title, *row])
  notes = [
    f"Compared with {result['reference_videos']} other real videos of "
    f"{result['data']}, read by the same regressor; ± one standard error over videos.",
    f"Speeds in {unit}; outliers are faster than {result['outlier_speed']:.4g}. "
    f"{result['steps_counted']} steps of a video count.",
  ]
  if _READ not in sets:
    notes.append("One real video: there is no floor to compare with.")
  return "\n".join([text_table.table(rows), "", *notes])
