"""Pixels: uint8 until they are on the device, float32 in [-1, 1] there."""

import numpy as np


def to_float(video):
  """uint8 [...] to float32 in [-1, 1]; numpy or jax arrays. 0 is -1, 255 is 1."""
  return video.astype("float32") / 127.5 - 1.0


def average(frames, height: int, width: int):
  """Averages frames [..., H, W, C] in blocks, to [..., height, width, C].

  numpy or jax arrays; H and W are `times` of the smaller ones.
  """
  *rest, h, w, c = frames.shape
  blocks = frames.reshape(*rest, height, h // height, width, w // width, c)
  return blocks.mean((-4, -2))


def times(large: tuple[int, int, int], small: tuple[int, int, int]) -> int:
  """Finds the whole number that makes (H, W, C) of small frames those of large ones.

  Returns:
    The number; 0 where there is none, or the channels differ.
  """
  (height, width, channels), (h, w, c) = large, small
  number = height // h if h else 0
  return number if (h * number, w * number, c) == (height, width, channels) else 0


def to_uint8(video) -> np.ndarray:
  """[-1, 1] to uint8 on the host: rounded, then clipped, never truncated."""
  levels = np.rint((np.asarray(video, np.float32) + 1.0) * 127.5)
  return np.clip(levels, 0, 255).astype(np.uint8)
