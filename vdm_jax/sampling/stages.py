"""The finished stages of an unfinished sampling job.

Reading them in order restores every frame, the plan's state and the recurrent state.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from vdm_jax.storage import unfinished


class Stage(NamedTuple):
  """A finished stage of a batch of videos.

  Attributes:
    rows: int [K], the video of the batch that each new frame belongs to.
    index: int [K], the place of each new frame in its video.
    values: float32 [K, H, W, C], the new frames.
    plan_state: state of the plan after the stage.
    carried: leaves of the recurrent state after the stage; empty if there is none, or
      if a later stage has replaced it.
  """

  rows: np.ndarray
  index: np.ndarray
  values: np.ndarray
  plan_state: Any
  carried: list[np.ndarray]


class Stages(unfinished.Unfinished):
  """The finished stages of a sampling job."""

  def finished(self, batch: int) -> Iterator[Stage]:
    """Yields the finished stages of a batch, in order."""
    number = 0
    while (found := self._arrays(_stage(batch, number))) is not None:
      carried = self._arrays(_state(batch, number)) or {}
      yield Stage(
        found["rows"],
        found["index"],
        found["values"],
        json.loads(str(found["plan_state"])),
        [carried[f"leaf_{i}"] for i in range(len(carried))],
      )
      number += 1

  def save(self, batch: int, number: int, stage: Stage) -> None:
    """Keeps a stage: everything of it is on disk, or nothing is."""
    if stage.carried:
      # Before the stage itself: a stage that is there has its state.
      leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(stage.carried)}
      self._write_arrays(_state(batch, number), leaves)
    self._write_arrays(
      _stage(batch, number),
      {
        "rows": stage.rows,
        "index": stage.index,
        "values": stage.values,
        "plan_state": np.array(json.dumps(stage.plan_state)),
      },
    )
    if number:
      self.drop(_state(batch, number - 1))

  def _arrays(self, name: str) -> dict[str, np.ndarray] | None:
    content = self.read(name)
    if content is None:
      return None
    with np.load(io.BytesIO(content)) as archive:
      return dict(archive)

  def _write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    self.write(name, buffer.getvalue())


def _stage(batch: int, number: int) -> str:
  return f"batch_{batch:05d}_stage_{number:05d}.npz"


def _state(batch: int, number: int) -> str:
  return f"batch_{batch:05d}_state_{number:05d}.npz"


def leaves(state: Any) -> list[np.ndarray]:
  """Lists a recurrent state's arrays on the host, in the order of its tree."""
  return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]
