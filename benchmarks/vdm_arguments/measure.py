"""Measures the samples of the comparisons over seeds."""

import json
import pathlib
from collections.abc import Iterable

import numpy as np
import scipy.spatial

from benchmarks.vdm_arguments import settings
from vdm_jax import text_table
from vdm_jax.data import source as sources
from vdm_jax.demo import digit_clips, digits
from vdm_jax.metrics import features, frechet, weights

LATE = 16  # Frames at the end of a long video, where errors have accumulated.
REFERENCE = 100  # Real test clips.
_COLUMNS = {
  "fvd": "FVD",
  "frechet": "Frechet of frames",
  "asked_clips": "digit asked for is read, %",
  "jumps": "steps too fast, %",
  "speed_distance": "speeds, W1",
  "diversity": "diversity (real: 1)",
}


class Judge:
  """Measures clips of one frameskip and length against real ones."""

  def __init__(self, source, reader, extractor, stride: int, frames: int):
    self._reader, self._extractor = reader, extractor
    per_class = REFERENCE // digits.NUM_CLASSES
    self._real = digit_clips.real_clips(source, frames, stride, per_class)
    fast = digit_clips.Measured.of(self._real, reader, 8)
    self._limit = max(2, int(np.ceil(2 * fast.speed.max())))
    self._seen = digit_clips.Measured.of(self._real, reader, self._limit)
    if extractor is not None:
      self._moments = frechet.Moments.of(extractor(self._real.videos))

  def __call__(self, videos: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Measures clips uint8 [N, T, H, W, C] that should show `labels`."""
    clips = digit_clips.Clips(videos, labels)
    mine = digit_clips.Measured.of(clips, self._reader, self._limit)
    found = {
      row.key: row.statistic(mine, self._seen)
      for row in digit_clips.ROWS
      if row.key in _COLUMNS
    }
    if self._extractor is not None:
      moments = frechet.Moments.of(self._extractor(videos))
      found["fvd"] = frechet.distance(moments, self._moments)
    found["diversity"] = _spread(mine) / _spread(self._seen)
    return {key: float(value) for key, value in found.items()}


def _spread(clips: digit_clips.Measured) -> float:
  """Computes the mean distance of two clips of a digit in the classifier's features."""
  means = clips.features.mean(1)
  return float(
    np.mean(
      [
        scipy.spatial.distance.pdist(means[clips.asked == digit]).mean()
        for digit in range(digits.NUM_CLASSES)
        if (clips.asked == digit).sum() > 1
      ]
    )
  )


def report(
  out: pathlib.Path,
  chosen: list[settings.Setting],
  seeds: Iterable[int],
  data_dir: str,
  clips: int = settings.CLIPS,
  fvd: bool = True,
) -> str:
  """Measures what is not measured yet; returns tables, and writes OUT/tables.txt.

  Args:
    out: folder of the samples.
    chosen: settings to compare.
    seeds: of each.
    data_dir: where data sets are; '' for the default place.
    clips: of each setting and seed, the first ones.
    fvd: measure it; a clip takes half a second on a CPU.
  """
  test = sources.load(settings.DATA, data_dir or None, "test")
  reader, _ = digits.train(settings.DATA, str(out / "classifier"))
  extractor = features.Extractor(weights.load("i3d")) if fvd else None
  kept = out / ("measured.json" if fvd else "measured_without_fvd.json")
  found = json.loads(kept.read_text()) if kept.exists() else {}
  judges = {}
  for setting in chosen:
    for seed in seeds:
      name = f"{setting.file}_{seed}"
      path = out / "samples" / f"{name}.npz"
      # Made on another machine, there may be fewer: the table counts seeds.
      if name in found or not path.exists():
        continue
      with np.load(path) as file:
        videos, labels = file["videos"][:clips], file["labels"][:clips]
        about = json.loads(str(file["about"]))
      videos = videos[:, -LATE:]
      key = (setting.stride, videos.shape[1])
      if key not in judges:
        judges[key] = Judge(test, reader, extractor, *key)
      found[name] = {**judges[key](videos, labels), **about}
      kept.write_text(json.dumps(found, indent=1))
  text = "\n\n".join(
    _table([s for s in chosen if s.comparison == letter], seeds, found)
    for letter in sorted({s.comparison for s in chosen})
  )
  (out / "tables.txt").write_text(text + "\n")
  return text


def _table(rows, seeds, found) -> str:
  lines = [[f"{rows[0].comparison}: model", "setting", "seeds"]]
  columns = {
    key: title
    for key, title in _COLUMNS.items()
    if all(key in values for values in found.values())
  }
  lines[0] += columns.values()
  for setting in rows:
    names = [f"{setting.file}_{seed}" for seed in seeds]
    of = [found[name] for name in names if name in found]
    if not of:
      continue
    name = f"{setting.base} + {setting.model}" if setting.base else setting.model
    cells = [_cell(of, key) for key in columns]
    lines.append([name, setting.name, str(len(of)), *cells])
  return text_table.table(lines)


def _cell(of, key) -> str:
  """Formats the mean over seeds and its standard error."""
  values = np.array([one[key] for one in of], float)
  if key in ("asked_clips", "jumps"):
    values = 100 * values
  error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
  places = 0 if abs(values.mean()) >= 100 else 1 if abs(values.mean()) >= 10 else 2
  return f"{values.mean():.{places}f} ± {error:.{places}f}"
