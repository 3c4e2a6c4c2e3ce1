"""RVD's fluid simulation, one array of vortices that is cut into runs.

    vortex.npy        [frames, H, W], any real numbers

The simulation itself was not published; this is the format that the authors' code
reads. Its first 8000 frames are 8 training runs of 1000, the rest test runs of 250.

Values are scaled to [0, 1] and stored as 8 bits. The authors take the smallest and the
largest value of all frames, even of test frames; here they are those of the training
frames unless `limits` is "all", and values beyond them are clipped.
"""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import PIL.Image
from etils import epath

from vdm_jax.data import folder, records


@dataclasses.dataclass(eq=False)
class FluidConfig(folder.FolderConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(128, "height and width of a frame in pixels")
  train_frames: int = records.option(
    8000, "number of frames for training; the rest is for testing"
  )
  train_run: int = records.option(1000, "frames per training clip")
  test_run: int = records.option(250, "frames per test clip")
  limits: str = records.option(
    "train", "frames whose limits become 0 and 1: train or all"
  )

  NUMBERS: ClassVar = {
    "px": "image_size",
    "train": "train_frames",
    "trainrun": "train_run",
    "testrun": "test_run",
  }
  WORDS: ClassVar = {"all": ("limits", "all")}

  def __post_init__(self):
    super().__post_init__()
    self.choose("limits", ("train", "all"))
    for field in ("train_frames", "train_run", "test_run"):
      if getattr(self, field) < 1:
        self.refuse(field, "a number >= 1")


class Fluid(folder.FolderBuilder):
  """RVD's fluid simulation: grey clips from one array of frames, vortex.npy."""

  CONFIG = FluidConfig

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 1)

  def videos(self):
    config = self.builder_config
    path = folder.find_one(self.root("the folder of vortex.npy"), "vortex.npy")
    array = _load(path)
    if len(array) < config.train_frames:
      config.refuse("train_frames", f"at most the {len(array)} frames of {path}")
    train, test = array[: config.train_frames], array[config.train_frames :]
    limits = _limits(path, train if config.limits == "train" else array)
    return {
      "train": self._read("train", train, config.train_run, limits),
      "test": self._read("test", test, config.test_run, limits),
    }

  def _read(
    self, split: str, array: np.ndarray, run: int, limits: tuple[float, float]
  ) -> Iterator[records.Video]:
    starts = range(0, len(array), run)
    size = self.builder_config.image_size
    for start in records.progress(starts, total=len(starts), description=split):
      frames = array[start : start + run]
      yield records.Video(
        frames=(_to_bytes(frame, size, limits) for frame in frames),
        name=f"{split}_{start}",
      )


def _load(path: epath.Path) -> np.ndarray:
  """Maps the array into memory rather than reading it."""
  try:
    array = np.load(path, mmap_mode="r")
  except (ValueError, EOFError) as error:
    raise folder.missing(path, "an array in NumPy's format", str(error)) from error
  if array.ndim != 3 or array.dtype.kind not in "fiu":
    found = f"{array.dtype} {list(array.shape)}"
    raise folder.missing(path, "an array of numbers [frames, H, W]", found)
  return array


def _limits(path: epath.Path, array: np.ndarray) -> tuple[float, float]:
  """Finds the smallest and largest value, frame by frame."""
  low = float(np.min([frame.min() for frame in array]))
  high = float(np.max([frame.max() for frame in array]))
  if not (np.isfinite(low) and np.isfinite(high) and low < high):
    raise folder.missing(path, "finite values that differ", f"{low} to {high}")
  return low, high


def _to_bytes(frame: np.ndarray, size: int, limits: tuple[float, float]) -> np.ndarray:
  """Scales a frame and rounds it to 8 bits, uint8 [size, size, 1]."""
  low, high = limits
  image = PIL.Image.fromarray(((frame - low) / (high - low)).astype(np.float32))
  shrinks = image.width >= size and image.height >= size
  filters = PIL.Image.Resampling
  image = image.resize((size, size), filters.BOX if shrinks else filters.BICUBIC)
  values = np.clip(np.asarray(image), 0, 1)
  return np.rint(values * 255).astype(np.uint8)[..., None]
