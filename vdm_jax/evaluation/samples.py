"""Reads folders of samples that `vdm-jax sample` wrote."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import systems
from vdm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Samples:
  """The samples of one folder.

  Attributes:
    folder: folder as the user named it.
    videos: uint8 [N, T, H, W, C].
    record: record of how they were made.
  """

  folder: str
  videos: np.ndarray
  record: Mapping[str, Any]

  @property
  def observed(self) -> np.ndarray:
    """Returns which frames were given, bool [T]."""
    places = self.record.get("given_frames") or []
    return np.isin(np.arange(self.videos.shape[1]), places)

  @property
  def stride(self) -> int:
    """Returns the distance between neighbouring frames, in source frames."""
    return systems.build(self.record["config"]).stride


def load(folder: str) -> Samples:
  """Reads a folder.

  Raises:
    UserError: it holds no samples, unfinished or damaged ones, or videos that are not
      8-bit.
  """
  path = epath.Path(folder)
  for name in ("videos.npz", "record.json"):
    if not (path / name).exists():
      raise UserError(
        f"`samples={folder}`: expected a folder that vdm-jax sample wrote, found no "
        f"{name} there"
      )
  name = path / "videos.npz"
  try:
    with name.open("rb") as file, np.load(file) as archive:
      videos = archive["videos"]
    name = path / "record.json"
    record = json.loads(name.read_text())
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise UserError(f"{name}: damaged ({type(error).__name__})") from error
  if videos.dtype != np.uint8 or videos.ndim != 5:
    raise UserError(
      f"{path / 'videos.npz'}: expected videos uint8 [N, T, H, W, C], found "
      f"{videos.dtype} {videos.shape}"
    )
  return Samples(str(folder), videos, record)


def names(folders: Sequence[str]) -> list[str]:
  """Names folders for a table: by their last parts, or in full if these are equal."""
  short = [os.path.basename(os.path.normpath(folder)) for folder in folders]
  return short if len(set(short)) == len(short) else list(folders)


def check_alike(found: Sequence[Samples]) -> None:
  """Raises UserError unless all have equal shape, stride and given frames."""
  first = found[0]
  for other in found[1:]:
    for what, mine, theirs in (
      ("frames", first.videos.shape[1:], other.videos.shape[1:]),
      ("given frames", first.observed.tolist(), other.observed.tolist()),
      ("stride", first.stride, other.stride),
    ):
      if mine != theirs:
        raise UserError(
          f"`samples`: {first.folder} and {other.folder} differ in {what}"
          + (f": {mine} and {theirs}" if what != "given frames" else "")
        )
