"""Pixels: uint8 until they are on the device, float32 in [-1, 1] there."""

import jax.numpy as jnp
import numpy as np


def to_float(video):
  """uint8 [...] to float32 in [-1, 1]; 0 is -1 and 255 is 1."""
  return jnp.asarray(video).astype(jnp.float32) / 127.5 - 1.0


def to_uint8(video) -> np.ndarray:
  """[-1, 1] to uint8 on the host: rounded, then clipped, never truncated."""
  pixels = np.rint((np.asarray(video, np.float32) + 1.0) * 127.5)
  return np.clip(pixels, 0, 255).astype(np.uint8)
