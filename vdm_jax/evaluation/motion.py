"""Motion in clips: centroids, displacements, and changes that they do not explain.

It is made for one bright object on a black ground, such as a moving digit. All
positions are (x, y) in pixels.
"""

from typing import NamedTuple

import numpy as np

# Intensities (of 1) below this are ground, as faint noise everywhere would pull a
# centroid to the middle. It is subtracted, not cut off, so that nothing jumps.
FLOOR = 0.1


def intensity(videos: np.ndarray) -> np.ndarray:
  """Converts clips uint8 [..., H, W, C] to float64 [..., H, W] from 0 (ground) to 1."""
  grey = np.asarray(videos, np.float64).mean(-1) / 255
  return np.clip(grey - FLOOR, 0, None) / (1 - FLOOR)


def mass(videos: np.ndarray) -> np.ndarray:
  """Sums the intensity of each frame, float64 [N, T], of uint8 [N, T, H, W, C]."""
  return intensity(videos).sum((-2, -1))


def centroids(videos: np.ndarray) -> np.ndarray:
  """Computes intensity-weighted centres, float64 [N, T, 2]; NaN for empty frames.

  Args:
    videos: uint8 [N, T, H, W, C].
  """
  light = intensity(videos)
  y, x = np.indices(light.shape[-2:])
  total = light.sum((-2, -1))
  total = np.where(total > 0, total, np.nan)
  return np.stack([(light * axis).sum((-2, -1)) / total for axis in (x, y)], axis=-1)


def displacements(videos: np.ndarray) -> np.ndarray:
  """Computes the centroid's movement per frame, float64 [N, T - 1, 2]; may be NaN."""
  return np.diff(centroids(videos), axis=1)


class Shift(NamedTuple):
  """The whole-pixel shift that best turns each frame into the next.

  Attributes:
    offset: int [N, T - 1, 2], (dx, dy).
    change: float64 [N, T - 1] in [0, 1], the part that the shift leaves unexplained:
      the sum of absolute differences over the sum of both frames. It is 0 if the object
      moved rigidly, 1 if nothing of it is left, NaN if both frames are empty.
  """

  offset: np.ndarray
  change: np.ndarray


def best_shift(videos: np.ndarray, limit: int) -> Shift:
  """Registers neighbouring frames of clips uint8 [N, T, H, W, C].

  Args:
    videos: the clips.
    limit: largest shift to try along an axis, in pixels.
  """
  light = intensity(videos)
  before, after = light[:, :-1], light[:, 1:]
  height, width = light.shape[-2:]
  padded = np.pad(before, ((0, 0), (0, 0), (limit, limit), (limit, limit)))
  offsets = [
    (dx, dy) for dy in range(-limit, limit + 1) for dx in range(-limit, limit + 1)
  ]
  # Sorted so that the smallest of several equally good shifts wins.
  offsets.sort(key=lambda offset: offset[0] ** 2 + offset[1] ** 2)
  errors = []
  for dx, dy in offsets:
    top, left = limit - dy, limit - dx
    moved = padded[:, :, top : top + height, left : left + width]
    # What leaves the frame counts as change, so that vanishing is not movement.
    lost = before.sum((-2, -1)) - moved.sum((-2, -1))
    errors.append(np.abs(moved - after).sum((-2, -1)) + np.clip(lost, 0, None))
  errors = np.stack(errors)
  best = errors.argmin(0)
  total = (before + after).sum((-2, -1))
  with np.errstate(invalid="ignore", divide="ignore"):
    change = np.where(total > 0, errors.min(0) / total, np.nan)
  return Shift(np.asarray(offsets)[best], change)
