"""Resizing rules of the codes that report FVD, which differ by up to 58 grey levels.

    tf1_legacy            whole frame, TensorFlow 1's `resize_bilinear`: no half-pixel
                          centres (the original FVD, FDM, MAGVIT)
    half_pixel            whole frame, half-pixel centres, no antialiasing (cd-fvd)
    half_pixel_antialias  the same, with a wider kernel if frames shrink
    short_side_crop       short side to the size, half-pixel centres, then the middle
                          square (VideoGPT, TATS, MCVD)

A rule is applied as two small matrices, one for the height and one for the width.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float32, UInt8

from vdm_jax.errors import unknown

RULES = ("tf1_legacy", "half_pixel", "half_pixel_antialias", "short_side_crop")


def to_unit(
  videos: UInt8[ArrayLike, "*lead h w c"], size: int, rule: str
) -> Float32[Array, "*lead {size} {size} c"]:
  """Resizes 8-bit videos, and maps them to [-1, 1].

  Raises:
    UserError: there is no such rule.
  """
  x = jnp.asarray(videos, jnp.float32)
  height, width = x.shape[-3:-1]
  for axis, matrix in zip((-3, -2), matrices(height, width, size, rule), strict=True):
    if matrix is not None:
      x = jnp.moveaxis(x, axis, -1)
      x = jnp.matmul(x, matrix.T, precision=jax.lax.Precision.HIGHEST)
      x = jnp.moveaxis(x, -1, axis)
  return x / 127.5 - 1.0


@functools.lru_cache(maxsize=16)
def matrices(
  height: int, width: int, size: int, rule: str
) -> tuple[
  Float32[np.ndarray, "{size} {height}"] | None,
  Float32[np.ndarray, "{size} {width}"] | None,
]:
  """Makes the matrices of height and width; None if nothing changes.

  Raises:
    UserError: there is no such rule.
  """
  if rule not in RULES:
    raise unknown("resize", rule, RULES)
  if rule != "short_side_crop":
    return _matrix(height, size, rule), _matrix(width, size, rule)
  short = min(height, width)
  found = []
  for length in (height, width):
    scaled = size if length == short else -(-length * size // short)
    matrix = _matrix(length, scaled, "half_pixel")
    matrix = np.eye(length, dtype=np.float32) if matrix is None else matrix
    first = (scaled - size) // 2
    found.append(matrix[first : first + size])
  return found[0], found[1]


def _matrix(length: int, size: int, rule: str) -> np.ndarray | None:
  if length == size:
    return None
  places = np.arange(length)
  target = np.arange(size)
  if rule == "tf1_legacy":
    centre, reach = target * (length / size), 1.0
  else:
    centre = (target + 0.5) * (length / size) - 0.5
    reach = max(1.0, length / size) if rule == "half_pixel_antialias" else 1.0
  if rule != "half_pixel_antialias":
    # Beyond the last centre there is no pixel to interpolate with.
    centre = np.clip(centre, 0, length - 1)
  weights = np.clip(1 - np.abs(centre[:, None] - places) / reach, 0, None)
  return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
