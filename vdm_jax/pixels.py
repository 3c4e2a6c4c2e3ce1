"""Conversions of pixels: uint8 on the host, float32 in [-1, 1] on the device."""

import numpy as np


def to_float(video):
  """Maps uint8 to float32 in [-1, 1], 0 to -1 and 255 to 1; numpy or jax arrays."""
  return video.astype("float32") / 127.5 - 1.0


def average(frames, height: int, width: int):
  """Averages blocks of frames [..., H, W, C], to [..., height, width, C].

  Takes numpy or jax arrays. H and W are the same multiple of height and width.
  """
  *rest, h, w, c = frames.shape
  blocks = frames.reshape(*rest, height, h // height, width, w // width, c)
  return blocks.mean((-4, -2))


def times(large: tuple[int, int, int], small: tuple[int, int, int]) -> int:
  """Finds the integer factor between the sizes (H, W, C) of small and large frames.

  Returns:
    The factor; 0 if there is none or the channels differ.
  """
  (height, width, channels), (h, w, c) = large, small
  number = height // h if h else 0
  return number if (h * number, w * number, c) == (height, width, channels) else 0


def to_uint8(video) -> np.ndarray:
  """Maps [-1, 1] to uint8 on the host, rounded (never truncated), then clipped."""
  levels = np.rint((np.asarray(video, np.float32) + 1.0) * 127.5)
  return np.clip(levels, 0, 255).astype(np.uint8)
