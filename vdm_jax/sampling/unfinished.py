"""The files of an unfinished sampling job, from which it can be resumed.

Each stage is one small file, written under another name and then renamed: a job that is
killed loses the current stage, never a finished one. Reading the files in order
restores every frame, the plan's state and the recurrent state.
"""

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint

_DESCRIPTION = "job.json"


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


class Unfinished:
  """The finished stages of a job, in a folder of their own."""

  def __init__(self, folder: epath.PathLike, description: Mapping[str, Any]):
    """Opens the folder, or makes it.

    Args:
      folder: folder of this job alone.
      description: everything that the result depends on, JSON-serialisable.

    Raises:
      UserError: the folder holds the stages of a job with another description.
    """
    self._folder = epath.Path(folder)
    path = self._folder / _DESCRIPTION
    description = json.loads(json.dumps(description, default=str))
    if path.exists():
      found = checkpoint.differences(json.loads(path.read_text()), description)
      if found:
        raise UserError(
          f"{folder}: holds an unfinished job with other settings ({'; '.join(found)})."
          " Run the same command again to resume it, or remove the folder"
        )
    else:
      self._folder.mkdir(parents=True, exist_ok=True)
      self._write(_DESCRIPTION, json.dumps(description, indent=2).encode())

  def stages(self, batch: int) -> Iterator[Stage]:
    """Yields the finished stages of a batch, in order."""
    number = 0
    while (path := self._path(batch, number)).exists():
      with np.load(io.BytesIO(path.read_bytes())) as archive:
        found = dict(archive)
      yield Stage(
        found["rows"],
        found["index"],
        found["values"],
        json.loads(str(found["plan_state"])),
        self._read_carried(batch, number),
      )
      number += 1

  def save(self, batch: int, number: int, stage: Stage) -> None:
    """Writes a stage to disk, all of it or nothing."""
    if stage.carried:
      # Written before the stage itself, so that a stage on disk always has its state.
      self._write_arrays(
        self._carried_path(batch, number).name,
        {f"leaf_{i}": leaf for i, leaf in enumerate(stage.carried)},
      )
    self._write_arrays(
      self._path(batch, number).name,
      {
        "rows": stage.rows,
        "index": stage.index,
        "values": stage.values,
        "plan_state": np.array(json.dumps(stage.plan_state)),
      },
    )
    if number:
      self._carried_path(batch, number - 1).unlink(missing_ok=True)

  def remove(self) -> None:
    """Removes the folder of a finished job."""
    self._folder.rmtree(missing_ok=True)

  def _path(self, batch: int, number: int) -> epath.Path:
    return self._folder / f"batch_{batch:05d}_stage_{number:05d}.npz"

  def _carried_path(self, batch: int, number: int) -> epath.Path:
    return self._folder / f"batch_{batch:05d}_state_{number:05d}.npz"

  def _read_carried(self, batch: int, number: int) -> list[np.ndarray]:
    path = self._carried_path(batch, number)
    if not path.exists():
      return []
    with np.load(io.BytesIO(path.read_bytes())) as archive:
      return [archive[f"leaf_{i}"] for i in range(len(archive.files))]

  def _write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    self._write(name, buffer.getvalue())

  def _write(self, name: str, content: bytes) -> None:
    aside = self._folder / f"writing.{jax.process_index()}.{name}"
    aside.write_bytes(content)
    aside.replace(self._folder / name)


def leaves(state: Any) -> list[np.ndarray]:
  """Lists a recurrent state's arrays on the host, in the order of its tree."""
  return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]
