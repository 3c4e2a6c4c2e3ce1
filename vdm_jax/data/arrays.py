"""Base classes of FDM's data sets, which have a file of whole frames per video.

The authors hold no training videos out for validation; here the last few are held out,
unless `held_out` is 0.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from etils import epath

from vdm_jax.data import folder, records
from vdm_jax.data.decode import Unreadable

Item = tuple[str, epath.Path]  # Name of a video, and its file.


@dataclasses.dataclass(eq=False)
class ArrayConfig(folder.FolderConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(
    64, "height and width of a frame: that of the files, or a divisor"
  )
  held_out: int = records.option(
    10, "number of last training videos for validation, at most half"
  )

  NUMBERS: ClassVar = {"px": "image_size", "heldout": "held_out"}


class ArrayBuilder(folder.FolderBuilder):
  """A builder of videos from arrays; subclasses override `find` and `load`."""

  CONFIG = ArrayConfig
  FPS: ClassVar[float] = 0.0

  def find(self) -> Mapping[str, list[Item]]:
    """Lists the videos of the splits "train" and "test", in order."""
    raise NotImplementedError

  def load(self, path: epath.Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Reads (frames uint8 [T, H, W, 3], extras) from a file; raises Unreadable.

    The frames must have passed `checked`.
    """
    raise NotImplementedError

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 3)

  def videos(self):
    found = self.find()
    train, test = found["train"], found["test"]
    kept = len(train) - min(self.builder_config.held_out, len(train) // 2)
    splits = {"train": train[:kept], "validation": train[kept:], "test": test}
    return {split: self._read(split, items) for split, items in splits.items()}

  def _read(self, split: str, items: list[Item]) -> Iterator[records.Video]:
    for name, path in records.progress(items, total=len(items), description=split):
      try:
        frames, extra = self.load(path)
        frames = _reduce(frames, self.builder_config.image_size)
      except Unreadable as error:
        self.skip(name, error)
        continue
      yield records.Video(frames=frames, name=name, fps=self.FPS, extra=extra)


class NumberedArrays(ArrayBuilder):
  """Videos in {train,test}/{0,1,...}.npy, each uint8 [T, H, W, 3]."""

  def find(self) -> Mapping[str, list[Item]]:
    root = self.root("the folder of train/ and test/ with 0.npy, 1.npy, ...")
    return {split: self._numbered(root, split) for split in ("train", "test")}

  def load(self, path: epath.Path) -> tuple[np.ndarray, dict[str, Any]]:
    return checked(load_npy(path)), {}

  def _numbered(self, root: epath.Path, split: str) -> list[Item]:
    """Lists the files whose names are numbers, in order, and ignores others."""
    part = root / split
    paths = part.iterdir() if part.is_dir() else ()
    numbered = [path for path in paths if re.fullmatch(r"\d+\.npy", path.name)]
    if not numbered:
      raise folder.missing(part, "videos 0.npy, 1.npy, ...")
    numbered.sort(key=lambda path: int(path.stem))
    return [(f"{split}/{path.name}", path) for path in numbered]


def load_npy(path: epath.Path) -> np.ndarray:
  """Loads the whole array of a .npy file; raises Unreadable."""
  try:
    with path.open("rb") as file:
      return np.load(file, allow_pickle=False)
  # NumPy raises different exceptions, depending on where a file is damaged.
  except (OSError, ValueError, EOFError, SyntaxError) as error:
    raise Unreadable(" ".join(str(error).split())) from error


def checked(frames: np.ndarray) -> np.ndarray:
  """Returns `frames` if they are uint8 [T, H, W, 3]; else raises Unreadable."""
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
    raise Unreadable(
      f"expected uint8 [T, H, W, 3], found {frames.dtype} {list(frames.shape)}"
    )
  if not len(frames):
    raise Unreadable("expected frames, found none")
  return frames


def _reduce(frames: np.ndarray, size: int) -> np.ndarray:
  """Averages blocks of frames [T, H, H, 3], to [T, size, size, 3]."""
  length, height, width, _ = frames.shape
  if height != width or height % size:
    raise Unreadable(
      f"expected square frames of {size} pixels or a multiple, found {height}x{width}"
    )
  if height == size:
    return frames
  block = height // size
  blocks = frames.reshape(length, size, block, size, block, 3)
  return np.rint(blocks.mean((2, 4), dtype=np.float32)).astype(np.uint8)
