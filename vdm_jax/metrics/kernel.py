"""Kernel distances between two sets of features: KVD, and JEDi's.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),  k(x, y) = (gamma x.y + c)^degree

Everything is in float64; kernel matrices are formed some rows at a time. The unbiased
estimator leaves out pairs of a feature with itself and may be negative.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A polynomial kernel.

  Attributes:
    degree: degree of the polynomial.
    offset: the offset c.
    scaled: whether gamma is 1 / D, or 1.
  """

  degree: int = 3
  offset: float = 1.0
  scaled: bool = True

  def __call__(
    self, x: Float[np.ndarray, "n1 d"], y: Float[np.ndarray, "n2 d"]
  ) -> Float[np.ndarray, "n1 n2"]:
    products = x @ y.T
    if self.scaled:
      products = products / x.shape[1]
    return (products + self.offset) ** self.degree


CUBIC = Kernel()  # The kernel of KVD, as in TF-GAN and torch-fidelity.
JEDI = Kernel(degree=2, offset=0.0)


def distance(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  kernel: Kernel = CUBIC,
  biased: bool = False,
  paired: bool = False,
) -> float:
  """Computes MMD^2 of two sets of features.

  Args:
    first: features of one set.
    second: features of the other.
    kernel: kernel of the feature space.
    biased: whether pairs of a feature with itself count.
    paired: whether pairs of the same number in both sets are left out; needs sets of
      equal size.

  Raises:
    ValueError: shapes do not fit, or a set is too small.
  """
  x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
  least = 1 if biased else 2
  if x.ndim != 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < least:
    raise ValueError(
      f"features {x.shape} and {y.shape}: expected [N, D] with N >= {least}"
    )
  if paired and len(x) != len(y):
    raise ValueError(f"paired: sets of {len(x)} and {len(y)} features")
  found = 0.0
  for one in (x, y):
    total, diagonal = _sums(one, one, kernel)
    n = len(one)
    found += total / n**2 if biased else (total - diagonal) / (n * (n - 1))
  total, diagonal = _sums(x, y, kernel)
  pairs = len(x) * len(y)
  if paired:
    total, pairs = total - diagonal, pairs - len(x)
  return float(found - 2 * total / pairs)


def _sums(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> tuple[float, float]:
  """Sums the kernel over all pairs, and over pairs of the same number."""
  total = sum(kernel(x[i : i + _ROWS], y).sum() for i in range(0, len(x), _ROWS))
  if len(x) != len(y):
    return total, float("nan")
  each = np.sum(x * y, axis=1)
  each = each / x.shape[1] if kernel.scaled else each
  return total, float(np.sum((each + kernel.offset) ** kernel.degree))


def of_subsets(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  size: int = 1000,
  count: int = 100,
  seed: int = 2020,
  kernel: Kernel = CUBIC,
) -> tuple[float, float]:
  """Averages unbiased MMD^2 over random subsets, with the standard error over them.

  The subsets share features, so the error is only that of drawing them. If the sets are
  no larger than `size`, there is one subset with all features, and no error (NaN).
  """
  size = min(size, len(first), len(second))
  if size == len(first) == len(second):
    return distance(first, second, kernel=kernel), float("nan")
  rng = np.random.RandomState(seed)
  found = [
    distance(
      first[rng.choice(len(first), size, replace=False)],
      second[rng.choice(len(second), size, replace=False)],
      kernel=kernel,
    )
    for _ in range(count)
  ]
  return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(count))


def jedi(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
) -> float:
  """Computes JEDi (Luo et al. 2024): 100 times the biased MMD^2, quadratic kernel."""
  return 100 * distance(first, second, kernel=JEDI, biased=True)
