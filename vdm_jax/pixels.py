"""Pixels: uint8 until they are on the device, float32 in [-1, 1] there."""

import numpy as np


def to_float(video):
  """uint8 [...] to float32 in [-1, 1]; numpy or jax arrays. 0 is -1, 255 is 1."""
  return video.astype("float32") / 127.5 - 1.0


def to_uint8(video) -> np.ndarray:
  """[-1, 1] to uint8 on the host: rounded, then clipped, never truncated."""
  levels = np.rint((np.asarray(video, np.float32) + 1.0) * 127.5)
  return np.clip(levels, 0, 255).astype(np.uint8)
