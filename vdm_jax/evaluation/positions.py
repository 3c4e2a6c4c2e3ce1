"""Application of a trained position regressor, and its protocol `position`."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from etils import epath

from vdm_jax import run_data, systems, text_table
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, protocol
from vdm_jax.metrics import jackknife
from vdm_jax.models.position_regressor import Grid
from vdm_jax.storage import workdirs
from vdm_jax.systems.position import PositionRegressor

# Frames per call, constant so that one compiled program serves any number.
_BATCH = 128
_SHOWN = 2  # Number of videos on the map.


class PositionReader:
  """Reads positions from frames.

  Attributes:
    system: the regressor.
    info: config, checkpoint step and origin.
  """

  def __init__(self, system: PositionRegressor, params: Any, info: dict[str, Any]):
    self.system, self.info = system, info
    self._params = params
    self._predict = jax.jit(system.predict)

  @property
  def grid(self) -> Grid:
    return self.system.grid

  def __call__(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps uint8 [..., H, W, C] to positions float64 [..., 2] and cells int [...]."""
    lead = frames.shape[:-3]
    flat = np.asarray(frames).reshape(-1, *self.system.frame_shape)
    found = []
    for start in range(0, len(flat), _BATCH):
      part = flat[start : start + _BATCH]
      full = np.zeros((_BATCH, *self.system.frame_shape), np.uint8)
      full[: len(part)] = part
      answer = self._predict(self._params, full)
      found.append([np.asarray(values)[: len(part)] for values in answer])
    position, cell = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return position.astype(np.float64).reshape(*lead, 2), cell.reshape(lead)


def load(workdir: str, argument: str) -> PositionReader:
  """Loads the regressor of a workdir or export.

  Args:
    workdir: of the run.
    argument: by which it was named, for errors.

  Raises:
    UserError: there is no regressor.
  """
  if not workdir:
    raise UserError(
      f"`{argument}`: expected the workdir of a position regressor, as "
      "configs/position_regressor_maze.py trains it"
    )
  params, info = workdirs.read_weights(workdir)
  if (name := info["config"]["system"]) != "position_regressor":
    raise UserError(
      f"`{argument}={workdir}`: expected a run of the system position_regressor, found "
      f"{name!r}"
    )
  return PositionReader(systems.build(info["config"]), params, info)


def open_data(
  reader: PositionReader, name: str, data_dir: str, split: str
) -> sources.VideoSource:
  """Opens the data set that a regressor is used on, by default its training data.

  Raises:
    UserError: its frames or its map are not the regressor's, or it has no positions.
  """
  config = reader.info["config"]
  source = run_data.open_named(config, split, name=name, data_dir=data_dir)
  source.check_extra(reader.system.extra)
  if tuple(source.frame_shape) != tuple(reader.system.frame_shape):
    raise UserError(
      f"frames of {source.full_name} are {tuple(source.frame_shape)}, the regressor "
      f"reads {tuple(reader.system.frame_shape)}"
    )
  bounds = (source.metadata.get("map") or {}).get("bounds")
  if bounds is not None and not np.allclose(bounds, reader.grid.bounds):
    raise UserError(
      f"the map of {source.full_name} has bounds {list(bounds)}, the regressor's "
      f"config.model.bounds are {list(reader.grid.bounds)}"
    )
  return source


def walls_of(source: sources.VideoSource) -> np.ndarray:
  """Returns the map's walls (x0, y0, x1, y1), float64 [M, 4]; M = 0 if unknown."""
  walls = (source.metadata.get("map") or {}).get("walls") or []
  return np.asarray(walls, np.float64).reshape(-1, 4)


@dataclasses.dataclass(frozen=True)
class Position:
  """Measures how accurately a position regressor reads held-out frames."""

  name: ClassVar[str] = "position"

  workdir: str = protocol.setting("", "run or export of the regressor")
  data: str = protocol.setting("", "data set; default the one it was trained on")
  data_dir: str = protocol.setting("", "folder of the data sets; default the run's")
  split: str = protocol.setting("test", "split whose videos are read")
  num_videos: int = protocol.setting(0, "number of videos, from the first on; 0: all")

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Measures median error and cell accuracy; map.png shows walks, true and read."""
    protocol.check_least(self, num_videos=0)
    reader = load(self.workdir, "workdir")
    source = open_data(reader, self.data, self.data_dir, self.split)
    count = min(self.num_videos or source.num_videos, source.num_videos)
    truth, read, cells = [], [], []
    for video in range(count):
      frames = np.arange(source.lengths[video])
      fields = ("frames", reader.system.extra)
      (found,) = source.read_many([(video, frames)], fields)
      position, cell = reader(found["frames"])
      truth.append(found[reader.system.extra][:, :2].astype(np.float64))
      read.append(position)
      cells.append(cell)
    result = self._result(reader.grid, truth, read, cells)
    panels = {
      f"{self.split} video {i}: true (blue), read (red)": [truth[i], read[i]]
      for i in range(min(_SHOWN, count))
    }
    bounds = reader.grid.bounds
    figures.walks(
      out / "map.png",
      panels,
      walls=walls_of(source),
      bounds=bounds,
      longest=min(bounds[2] - bounds[0], bounds[3] - bounds[1]) / 10,
    )
    result |= {
      "data": source.full_name,
      "data_fingerprint": source.fingerprint,
      "checkpoint_step": reader.info["step"],
      "videos": count,
      "bounds": list(bounds),
      "cells": reader.grid.cells,
    }
    return protocol.Outcome(result, _table(result))

  def _result(
    self,
    grid: Grid,
    truth: Sequence[np.ndarray],
    read: Sequence[np.ndarray],
    cells: Sequence[np.ndarray],
  ) -> dict[str, Any]:
    distances = [
      np.linalg.norm(a - b, axis=-1) for a, b in zip(truth, read, strict=True)
    ]
    right = [grid.cell(a) == c for a, c in zip(truth, cells, strict=True)]
    middle = np.median(np.concatenate(truth), axis=0)
    guess = [np.linalg.norm(a - middle, axis=-1) for a in truth]
    cell_size = float(np.mean(grid.size))
    statistics = {
      "median_error": (distances, np.median),
      "error_90": (distances, lambda d: np.quantile(d, 0.9)),
      "far_off": (distances, lambda d: np.mean(d > cell_size)),
      "cell_accuracy": (right, np.mean),
      "median_error_of_guess": (guess, np.median),
    }
    result = {}
    for key, (values, statistic) in statistics.items():
      value, error = jackknife.estimate(
        lambda chosen, values=values, statistic=statistic: statistic(
          np.concatenate([values[i] for i in chosen])
        ),
        len(values),
      )
      result[key] = {"value": value, "error": error}
    return {"frames": sum(map(len, truth)), "results": result}


def _table(result: dict[str, Any]) -> str:
  titles = {
    "median_error": "median error, map units",
    "error_90": "90 % are closer than",
    "far_off": "farther off than a cell is wide",
    "cell_accuracy": "cell named right",
    "median_error_of_guess": "median error of always the middle",
  }
  rows = [["position", f"{result['videos']} videos, {result['frames']} frames"]]
  for key, title in titles.items():
    found = result["results"][key]
    percent = key in ("far_off", "cell_accuracy")
    cell = text_table.cell(found["value"], found["error"], percent=percent)
    rows.append([title, cell])
  return text_table.table(rows) + "\n\n± one standard error over videos (jackknife)"
