"""Fréchet distance between Gaussians fitted to two sets of features.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

Everything is in float64 on the host; covariances are divided by n - 1. With factors
S = A^T A the last trace is the sum of the singular values of A1 A2^T: no root of a
non-symmetric matrix is taken, so nothing becomes complex or NaN, whatever the rank.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and scatter of a set of features; moments of sets can be added.

  Attributes:
    count: number of features n.
    mean: their mean.
    scatter: sum of outer products of deviations from the mean.
  """

  count: int
  mean: Float64[np.ndarray, " d"]
  scatter: Float64[np.ndarray, "d d"]

  @classmethod
  def of(cls, features: Float[np.ndarray, "... d"]) -> "Moments":
    """Computes the moments of features; leading axes are examples."""
    x = np.asarray(features, np.float64)
    x = x.reshape(-1, x.shape[-1])
    if not len(x):
      return cls(0, np.zeros(x.shape[-1]), np.zeros((x.shape[-1],) * 2))
    mean = x.mean(0)
    centred = x - mean
    return cls(len(x), mean, centred.T @ centred)

  @classmethod
  def stream(cls, batches: Iterable[Float[np.ndarray, "... d"]]) -> "Moments":
    """Computes the moments of all batches with one in memory at a time."""
    batches = iter(batches)
    total = cls.of(next(batches))
    for batch in batches:
      total += cls.of(batch)
    return total

  def __add__(self, other: "Moments") -> "Moments":
    """Combines two sets without sums of raw squares (Chan et al. 1983)."""
    count = self.count + other.count
    if not count:
      return self
    delta = other.mean - self.mean
    weight = other.count / count
    return Moments(
      count,
      self.mean + weight * delta,
      self.scatter + other.scatter + self.count * weight * np.outer(delta, delta),
    )

  @property
  def covariance(self) -> Float64[np.ndarray, "d d"]:
    """Computes the unbiased covariance.

    Raises:
      ValueError: fewer than two features.
    """
    if self.count < 2:
      raise ValueError(f"a covariance needs 2 features or more, found {self.count}")
    return self.scatter / (self.count - 1)


def distance(first: Moments, second: Moments) -> float:
  """Computes the squared Fréchet distance of two sets from their moments.

  For equal sets, rounding may leave a value such as -1e-6, which is not clipped.
  """
  return _combine(
    first.mean, _root(first.covariance), second.mean, _root(second.covariance)
  ).distance


class Terms(NamedTuple):
  """The terms of the distance.

  Attributes:
    means: |m1 - m2|^2.
    traces: tr S1 + tr S2.
    cross: tr (S1 S2)^(1/2).
  """

  means: float
  traces: float
  cross: float

  @property
  def distance(self) -> float:
    return self.means + self.traces - 2 * self.cross


def distance_of_features(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  ddof: int = 1,
) -> float:
  """Computes the distance from features, exact even if N <= D.

  Args:
    first: features of one set.
    second: features of the other.
    ddof: covariances are divided by N - ddof; it is 0 in StyleGAN-V and cd-fvd.
  """
  return terms(first, second, ddof=ddof).distance


def terms(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  ddof: int = 1,
) -> Terms:
  """Computes the terms of the distance of two sets of features.

  Raises:
    ValueError: shapes do not fit, or there are fewer than two features.
  """
  means, factors = [], []
  for features in (first, second):
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
      raise ValueError(f"features: expected [N >= 2, D], found {x.shape}")
    means.append(x.mean(0))
    factor = (x - means[-1]) / np.sqrt(len(x) - ddof)
    # A tall factor can be replaced by its R factor, which has the same S.
    factors.append(np.linalg.qr(factor, mode="r") if len(x) > x.shape[1] else factor)
  return _combine(means[0], factors[0], means[1], factors[1])


class Infinity(NamedTuple):
  """The distance extrapolated to infinitely many features.

  Attributes:
    value: value of the line at 1 / n = 0.
    error: its standard error, from the spread around the line; NaN for two sizes.
    slope: slope of the line: the bias of n features is slope / n.
    sizes: the numbers n of features.
    distances: the distance at each of them.
  """

  value: float
  error: float
  slope: float
  sizes: Int[np.ndarray, " sizes"]
  distances: Float64[np.ndarray, " sizes"]


def infinity(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  sizes: Sequence[int] | None = None,
  *,
  seed: int | None = None,
) -> Infinity:
  """Extrapolates the distance to infinitely many features (Chong and Forsyth 2020).

  A line in 1 / n is fitted through the distances of n features.

  Args:
    first: features of one set.
    second: features of the other.
    sizes: numbers n taken of both sets; None for 15 of them, from a tenth of the
      smaller set to all of it.
    seed: seed of random subsets; None takes the first n.

  Raises:
    ValueError: there are fewer than two sizes, or one exceeds a set.
  """
  most = min(len(first), len(second))
  if sizes is None:
    sizes = np.unique(np.linspace(max(2, most // 10), most, 15).astype(int))
  sizes = np.asarray(sizes)
  if len(sizes) < 2 or sizes.min() < 2 or sizes.max() > most:
    raise ValueError(f"sizes {sizes}: expected two or more, from 2 to {most}")
  rng = None if seed is None else np.random.default_rng(seed)

  def some(features, n):
    if rng is None:
      return features[:n]
    return features[rng.choice(len(features), n, replace=False)]

  found = np.array(
    [distance_of_features(some(first, n), some(second, n)) for n in sizes]
  )
  matrix = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
  (value, slope), *_ = np.linalg.lstsq(matrix, found, rcond=None)
  error = float("nan")
  if len(sizes) > 2:
    variance = np.sum((found - matrix @ [value, slope]) ** 2) / (len(sizes) - 2)
    error = float(np.sqrt(variance * np.linalg.inv(matrix.T @ matrix)[0, 0]))
  return Infinity(float(value), error, float(slope), sizes, found)


def _root(covariance: np.ndarray) -> np.ndarray:
  """Computes A with A^T A = covariance; negative eigenvalues are rounding errors."""
  values, vectors = np.linalg.eigh(covariance)
  return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def _combine(mean1, root1, mean2, root2) -> Terms:
  if len(mean1) != len(mean2):
    raise ValueError(f"features of {len(mean1)} and of {len(mean2)} dimensions")
  cross = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
  means = np.sum((mean1 - mean2) ** 2)
  return Terms(float(means), float(np.sum(root1**2) + np.sum(root2**2)), float(cross))
