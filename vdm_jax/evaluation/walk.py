"""Does a video make sense as a walk? FDM's WD and PO from positions on a map.

The paper (Harvey et al. 2022, section 5.3) reads positions off frames with a
regressor and compares "point-speeds", distances between positions of neighbouring
frames, with those of the test set. Its code was never published: what follows is our
definition.

    speed of a step   distance of the two positions x frames per second
    outlier           a step faster than a threshold: a jump, not a movement
    PO                share of outliers
    WD                Wasserstein-1 distance of the speeds that are no outliers to
                      those of the test set
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.stats

from vdm_jax.models.position_regressor import Grid


@dataclasses.dataclass(frozen=True)
class Walk:
  """One video's positions.

  Attributes:
    position: [T, 2], map units.
    counts: bool [T - 1], which steps are measured.
    fps: frames per second.
  """

  position: np.ndarray
  counts: np.ndarray
  fps: float

  @classmethod
  def of(cls, position: np.ndarray, observed: np.ndarray, fps: float) -> "Walk":
    """Steps between two observed frames do not count: no model made them.

    Args:
      position: [T, 2].
      observed: bool [T or more].
      fps: frames per second.
    """
    observed = observed[: len(position)]
    return cls(position, ~(observed[1:] & observed[:-1]), fps)

  @property
  def speed(self) -> np.ndarray:
    """Of the steps that count, map units per second [K]."""
    steps = np.diff(self.position, axis=0)[self.counts]
    return np.linalg.norm(steps, axis=-1) * self.fps

  @property
  def reached(self) -> np.ndarray:
    """Where the steps that count end [K, 2]."""
    return self.position[1:][self.counts]


def speeds(walks: Sequence[Walk]) -> np.ndarray:
  """Of all walks together [K]."""
  return np.concatenate([walk.speed for walk in walks])


def outliers(walks: Sequence[Walk], threshold: float) -> float:
  """PO: share of steps faster than `threshold`; NaN if there is no step."""
  found = speeds(walks)
  return float(np.mean(found > threshold)) if len(found) else float("nan")


def speed_distance(
  walks: Sequence[Walk], reference: Sequence[Walk], threshold: float
) -> float:
  """WD, map units per second; NaN where a side has nothing but outliers."""
  kept = [s[s <= threshold] for s in (speeds(walks), speeds(reference))]
  if not all(len(side) for side in kept):
    return float("nan")
  return float(scipy.stats.wasserstein_distance(*kept))


def place_distance(
  walks: Sequence[Walk], reference: Sequence[Walk], grid: Grid
) -> float:
  """Earth mover's distance of the shares of frames in each cell, map units.

  Between cells lies the distance of their centres. NaN where a side has no frame on
  the map.
  """
  centres, shares = [], []
  for side in (walks, reference):
    cells = grid.cell(np.concatenate([walk.reached for walk in side]))
    found, counts = np.unique(cells[cells >= 0], return_counts=True)
    if not len(found):
      return float("nan")
    centres.append(grid.centre(found))
    shares.append(counts / counts.sum())
  cost = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=-1)
  n, m = cost.shape
  # Rows: what leaves each cell; columns: what arrives in each. One of them follows
  # from the others, and rounding must not contradict it.
  leaves = scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m)))
  arrives = scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m))
  constraints = scipy.sparse.vstack([leaves, arrives]).tocsr()[:-1]
  amounts = np.concatenate(shares)[:-1]
  found = scipy.optimize.linprog(cost.ravel(), A_eq=constraints, b_eq=amounts)
  if not found.success:
    raise RuntimeError(f"transport between cells: {found.message}")
  return float(found.fun)


def through_walls(walks: Sequence[Walk], walls: np.ndarray) -> float:
  """Share of steps that cross a wall [M, 4] as (x0, y0, x1, y1); NaN without steps.

  The regressor's errors cross walls too: compare with real walks.
  """
  crossed = [
    crosses(walk.position[:-1][walk.counts], walk.reached, walls) for walk in walks
  ]
  crossed = np.concatenate(crossed)
  return float(np.mean(crossed)) if len(crossed) else float("nan")


def crosses(start: np.ndarray, end: np.ndarray, walls: np.ndarray) -> np.ndarray:
  """bool [K]: whether the segment from `start` to `end` [K, 2] crosses any wall."""
  first, second = walls[None, :, :2], walls[None, :, 2:]
  a, b = start[:, None], end[:, None]
  # Each segment's ends lie on different sides of the other.
  return np.any(
    (_side(a, b, first) * _side(a, b, second) < 0)
    & (_side(first, second, a) * _side(first, second, b) < 0),
    axis=1,
  )


def _side(a, b, point):
  """Sign of twice the area of the triangle a, b, point."""
  along, away = b - a, point - a
  return np.sign(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0])
