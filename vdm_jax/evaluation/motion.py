"""How what is seen in a clip moves: centroids, displacements, what else changes.

Made for one bright thing on a black ground, such as a moving digit. All positions
are (x, y) in pixels.
"""

from typing import NamedTuple

import numpy as np

# Intensities (of 1) below it are ground: faint noise everywhere would pull a
# centroid to the middle. Subtracted, not cut, so that nothing jumps.
FLOOR = 0.1


def intensity(videos: np.ndarray) -> np.ndarray:
  """Clips uint8 [..., H, W, C] as float64 [..., H, W], 0 for ground, at most 1."""
  grey = np.asarray(videos, np.float64).mean(-1) / 255
  return np.clip(grey - FLOOR, 0, None) / (1 - FLOOR)


def mass(videos: np.ndarray) -> np.ndarray:
  """Total intensity float64 [N, T] of the frames of clips uint8 [N, T, H, W, C]."""
  return intensity(videos).sum((-2, -1))


def centroids(videos: np.ndarray) -> np.ndarray:
  """Intensity-weighted centres float64 [N, T, 2]; NaN in a frame that is all ground.

  Args:
    videos: uint8 [N, T, H, W, C].
  """
  light = intensity(videos)
  y, x = np.indices(light.shape[-2:])
  total = light.sum((-2, -1))
  total = np.where(total > 0, total, np.nan)
  return np.stack([(light * axis).sum((-2, -1)) / total for axis in (x, y)], axis=-1)


def displacements(videos: np.ndarray) -> np.ndarray:
  """Movement of the centroid from frame to frame, float64 [N, T - 1, 2]; may be NaN."""
  return np.diff(centroids(videos), axis=1)


class Shift(NamedTuple):
  """The whole-pixel shift that best turns each frame into the next.

  Attributes:
    offset: int [N, T - 1, 2], (dx, dy).
    change: float64 [N, T - 1] in [0, 1], what the shift leaves unexplained: the sum
      of absolute differences over the sum of both frames. 0 if the thing moved
      rigidly, 1 if nothing of it is left; NaN where both frames are all ground.
  """

  offset: np.ndarray
  change: np.ndarray


def best_shift(videos: np.ndarray, limit: int) -> Shift:
  """Registers neighbouring frames of clips uint8 [N, T, H, W, C].

  Args:
    videos: the clips.
    limit: largest shift to try along an axis, pixels.
  """
  light = intensity(videos)
  before, after = light[:, :-1], light[:, 1:]
  height, width = light.shape[-2:]
  padded = np.pad(before, ((0, 0), (0, 0), (limit, limit), (limit, limit)))
  offsets = [
    (dx, dy) for dy in range(-limit, limit + 1) for dx in range(-limit, limit + 1)
  ]
  # The least movement comes first: it wins where several fit equally.
  offsets.sort(key=lambda offset: offset[0] ** 2 + offset[1] ** 2)
  errors = []
  for dx, dy in offsets:
    top, left = limit - dy, limit - dx
    moved = padded[:, :, top : top + height, left : left + width]
    # What leaves the frame is lost too: vanishing is no way of moving.
    lost = before.sum((-2, -1)) - moved.sum((-2, -1))
    errors.append(np.abs(moved - after).sum((-2, -1)) + np.clip(lost, 0, None))
  errors = np.stack(errors)
  best = errors.argmin(0)
  total = (before + after).sum((-2, -1))
  with np.errstate(invalid="ignore", divide="ignore"):
    change = np.where(total > 0, errors.min(0) / total, np.nan)
  return Shift(np.asarray(offsets)[best], change)
