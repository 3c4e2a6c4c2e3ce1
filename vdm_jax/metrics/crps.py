"""The continuous ranked probability score of an ensemble.

    CRPS(F, y) = E|X - y| - 1/2 E|X - X'| = integral of (F(z) - 1[z >= y])^2 dz

with independent X, X' of law F. There are two estimators from S members, whose values
differ visibly if S is small: always state the estimator, and S.

- *plug-in*: F is the empirical law of the members; all S^2 pairs count, even those of a
  member with itself. It falls as S grows even if F stays the same.
- *fair*: only the S (S - 1) pairs of different members count. Its mean does not depend
  on S; it does not exist for one member.
"""

import numpy as np
from jaxtyping import Float, Float64


def crps(
  members: Float[np.ndarray, " s *shape"],
  truth: Float[np.ndarray, "*shape"],
  *,
  fair: bool = False,
) -> Float64[np.ndarray, "*shape"]:
  """Computes the CRPS of every element, in the members' unit; smaller is better.

  Pairs are never formed: for sorted members the sum of |x_i - x_j| over pairs i < j is
  the sum of (2 i - S - 1) x_(i), so the cost is O(S log S).

  Args:
    members: predictions.
    truth: true values.
    fair: whether to take the fair estimator instead of the plug-in.

  Returns:
    The scores; NaN for the fair estimator of one member.

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
