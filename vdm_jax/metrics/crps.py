"""The continuous ranked probability score of an ensemble.

    CRPS(F, y) = E|X - y| - 1/2 E|X - X'| = integral of (F(z) - 1[z >= y])^2 dz

with X, X' independent of law F. From S members there are two estimators, and their
values differ visibly for few members: always say which, and S.

- *plug-in*: F is the empirical law of the members; all S^2 pairs count, those of a
  member with itself too. Falls as S grows even if F stays the same.
- *fair*: only pairs of different members, S (S - 1). Its mean does not depend on S;
  of one member there is none.
"""

import numpy as np


def crps(members: np.ndarray, truth: np.ndarray, *, fair: bool = False) -> np.ndarray:
  """Scores every element, in the members' unit; smaller is better.

  Pairs are never formed: with members sorted, the sum of |x_i - x_j| over pairs i < j
  is that of (2 i - S - 1) x_(i), so the cost is O(S log S).

  Args:
    members: [S, ...].
    truth: [...].
    fair: the fair estimator instead of the plug-in.

  Returns:
    float64 [...]; NaN for the fair form of one member.

  Raises:
    ValueError: shapes do not fit, or there is no member.
  """
  x, y = np.asarray(members, np.float64), np.asarray(truth, np.float64)
  if x.shape[1:] != y.shape or not len(x):
    raise ValueError(f"members {x.shape} of truth {y.shape}: expected [S >= 1, ...]")
  size = len(x)
  error = np.abs(x - y).mean(0)
  if fair and size == 1:
    return np.full(y.shape, np.nan)
  rank = 2 * np.arange(1, size + 1) - size - 1
  spread = np.tensordot(rank, np.sort(x, axis=0), axes=1)
  return error - spread / (size * (size - 1 if fair else size))
