"""FDM's WD and PO: whether a video, by positions on a map, makes sense as a walk.

The paper (Harvey et al. 2022, section 5.3) reads positions from frames with a regressor
and compares "point-speeds", distances between positions of neighbouring frames, with
those of the test set. Its code was never published; the definitions are ours:

    speed of a step   distance of the two positions x frames per second
    outlier           a step faster than a threshold: a jump, not a movement
    PO                share of outliers
    WD                Wasserstein-1 distance between the speeds, without outliers, and
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
  """The positions of one video.

  Attributes:
    position: positions [T, 2], in map units.
    counts: bool [T - 1], the steps that are measured.
    fps: frames per second.
  """

  position: np.ndarray
  counts: np.ndarray
  fps: float

  @classmethod
  def of(cls, position: np.ndarray, observed: np.ndarray, fps: float) -> "Walk":
    """Makes a walk, without the steps between observed frames, which no model made.

    Args:
      position: positions [T, 2].
      observed: bool [T or more], which frames were given.
      fps: frames per second.
    """
    observed = observed[: len(position)]
    return cls(position, ~(observed[1:] & observed[:-1]), fps)

  @property
  def speed(self) -> np.ndarray:
    """Computes the speeds [K] of the steps that count, in map units per second."""
    steps = np.diff(self.position, axis=0)[self.counts]
    return np.linalg.norm(steps, axis=-1) * self.fps

  @property
  def reached(self) -> np.ndarray:
    """Returns the ends [K, 2] of the steps that count."""
    return self.position[1:][self.counts]


def speeds(walks: Sequence[Walk]) -> np.ndarray:
  """Collects the speeds [K] of all walks."""
  return np.concatenate([walk.speed for walk in walks])


def outliers(walks: Sequence[Walk], threshold: float) -> float:
  """Computes PO, the share of steps faster than `threshold`; NaN without steps."""
  found = speeds(walks)
  return float(np.mean(found > threshold)) if len(found) else float("nan")


def speed_distance(
  walks: Sequence[Walk], reference: Sequence[Walk], threshold: float
) -> float:
  """Computes WD in map units per second; NaN if a side has only outliers."""
  kept = [s[s <= threshold] for s in (speeds(walks), speeds(reference))]
  if not all(len(side) for side in kept):
    return float("nan")
  return float(scipy.stats.wasserstein_distance(*kept))


def place_distance(
  walks: Sequence[Walk], reference: Sequence[Walk], grid: Grid
) -> float:
  """Computes the earth mover's distance between shares of frames by cell, in map units.

  Cells are as far apart as their centres. It is NaN if a side has no frame on the map.
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
  # Constraints: what leaves each cell (rows) and what arrives in each (columns). One of
  # them follows from the others and is dropped, as rounding could contradict it.
  leaves = scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m)))
  arrives = scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m))
  constraints = scipy.sparse.vstack([leaves, arrives]).tocsr()[:-1]
  amounts = np.concatenate(shares)[:-1]
  found = scipy.optimize.linprog(cost.ravel(), A_eq=constraints, b_eq=amounts)
  if not found.success:
    raise RuntimeError(f"transport between cells: {found.message}")
  return float(found.fun)


def through_walls(walks: Sequence[Walk], walls: np.ndarray) -> float:
  """Computes the share of steps that cross a wall (x0, y0, x1, y1); NaN without steps.

  Errors of the regressor cross walls, too, so compare it with that of real walks.
  """
  crossed = [
    crosses(walk.position[:-1][walk.counts], walk.reached, walls) for walk in walks
  ]
  crossed = np.concatenate(crossed)
  return float(np.mean(crossed)) if len(crossed) else float("nan")


def crosses(start: np.ndarray, end: np.ndarray, walls: np.ndarray) -> np.ndarray:
  """Returns, bool [K], whether segments from `start` to `end` [K, 2] cross any wall."""
  first, second = walls[None, :, :2], walls[None, :, 2:]
  a, b = start[:, None], end[:, None]
  # Segments cross if the ends of each lie on different sides of the other.
  return np.any(
    (_side(a, b, first) * _side(a, b, second) < 0)
    & (_side(first, second, a) * _side(first, second, b) < 0),
    axis=1,
  )


def _side(a, b, point):
  """Returns the sign of the area of the triangle a, b, point."""
  along, away = b - a, point - a
  return np.sign(along[..., 0] * away[..., 1] - along[..., 1] * away[..., 0])
