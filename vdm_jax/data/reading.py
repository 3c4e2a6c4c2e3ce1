"""Common parts of all readers of videos and pictures: frames, and their error."""

import contextlib
import functools

import numpy as np
import PIL.Image
from etils import epath

from vdm_jax.errors import UserError

MOST_PIXELS = 1 << 27  # Largest number of pixels of a picture, that of 16K video.


class Unreadable(UserError):
  """Raised for a video that cannot be decoded to its end, with the reason."""


class Frame:
  """A decoded frame: its time, its duration and, computed on demand, its pixels."""

  def __init__(self, time: float, duration: float, pixels, aspect: float = 1.0):
    self.time, self.duration = time, duration
    self._pixels, self._aspect = pixels, aspect

  @functools.cached_property
  def image(self) -> tuple[PIL.Image.Image, float]:
    """Returns (RGB picture, width of a pixel over its height)."""
    return self._pixels(), self._aspect


@contextlib.contextmanager
def guarded(path: epath.Path):
  """Converts a decoder's exceptions, which may be of any class, to `Unreadable`."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    # FFmpeg's errors contain the path, which is already in the message.
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise Unreadable(f"{path}: cannot be decoded ({reason.splitlines()[0]})") from error


def check_size(path: epath.Path, width: int, height: int) -> None:
  """Raises `Unreadable` for a size that only a damaged header can have."""
  if width * height > MOST_PIXELS:
    raise Unreadable(
      f"{path}: {width}x{height} pixels, expected {MOST_PIXELS:,} at most"
    )


def rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  """Converts a picture to RGB; 16 bits are scaled, transparent pixels become black."""
  if image.mode.startswith("I"):
    eight = np.asarray(image).astype(np.int64).clip(0, 65535) / 257
    return PIL.Image.fromarray(np.rint(eight).astype(np.uint8)).convert("RGB")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    ground = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
    image = PIL.Image.alpha_composite(ground, image)
  return image.convert("RGB")
