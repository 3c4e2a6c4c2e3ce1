"""Whether two histograms of independent draws come from one distribution."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

Counts = Mapping[str, np.ndarray]


def merge_sparse(first: np.ndarray, second: np.ndarray, minimum: float):
  """Both histograms with neighbouring bins joined until each expects `minimum`.

  Expected under one distribution, in the smaller of the two samples.
  """
  share = min(first.sum(), second.sum()) / (first.sum() + second.sum())
  edges, inside = [0], 0.0
  for k, expected in enumerate((first + second) * share):
    if inside >= minimum:
      edges.append(k)
      inside = 0.0
    inside += expected
  if (
    inside < minimum and len(edges) > 1
  ):  # The last bin is sparse: join the one before.
    edges.pop()
  return np.add.reduceat(first, edges), np.add.reduceat(second, edges)


def two_sample_p(first, second, minimum: float = 10.0) -> float:
  """p-value of the two-sample chi-squared test; one if a single bin is left.

  Args:
    first: counts of any shape.
    second: counts of the same shape, of any other number of draws.
    minimum: sparse bins are merged until each expects so many.
  """
  first, second = (np.asarray(counts, np.int64).ravel() for counts in (first, second))
  if first.shape != second.shape or not first.sum() or not second.sum():
    return 0.0
  first, second = merge_sparse(first, second, minimum)
  if len(first) < 2:
    return 1.0
  return float(stats.chi2_contingency([first, second], correction=False).pvalue)


def histogram(values: Sequence[int], size: int) -> np.ndarray:
  """Counts of 0 to size - 1; a value outside is an error."""
  counts = np.bincount(np.asarray(values, np.int64), minlength=size)
  if len(counts) > size:
    raise ValueError(f"histogram: found {len(counts) - 1}, expected below {size}")
  return counts


def p_values(found: Counts, expected: Counts, prefix: str = "") -> dict[str, float]:
  """p-value by name of every expected histogram; 0 for one that was not drawn."""
  return {
    f"{prefix}{name}": two_sample_p(found[name], counts) if name in found else 0.0
    for name, counts in expected.items()
  }
