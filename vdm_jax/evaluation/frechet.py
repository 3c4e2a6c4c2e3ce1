"""Fréchet distance between Gaussians fitted to two sets of features.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

All in float64 on the host, covariances with n - 1. With factors S = A^T A the last
trace is the sum of the singular values of A1 A2^T: no root of a non-symmetric
matrix is taken, so nothing can turn complex or NaN, whatever the rank.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
  """Count, mean and scatter of a set of features; sets add up.

  Attributes:
    count: n.
    mean: float64 [D].
    scatter: float64 [D, D], sum of outer products of deviations from the mean.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def of(cls, features: np.ndarray) -> "Moments":
    """The moments of features [..., D]; leading axes are examples."""
    x = np.asarray(features, np.float64)
    x = x.reshape(-1, x.shape[-1])
    if not len(x):
      return cls(0, np.zeros(x.shape[-1]), np.zeros((x.shape[-1],) * 2))
    mean = x.mean(0)
    centred = x - mean
    return cls(len(x), mean, centred.T @ centred)

  @classmethod
  def stream(cls, batches: Iterable[np.ndarray]) -> "Moments":
    """The moments of all batches [..., D] together, one in memory at a time."""
    batches = iter(batches)
    total = cls.of(next(batches))
    for batch in batches:
      total += cls.of(batch)
    return total

  def __add__(self, other: "Moments") -> "Moments":
    """The moments of both sets (Chan et al. 1983): no sums of raw squares."""
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
  def covariance(self) -> np.ndarray:
    """Unbiased covariance [D, D].

    Raises:
      ValueError: fewer than two features.
    """
    if self.count < 2:
      raise ValueError(f"a covariance needs 2 features or more, found {self.count}")
    return self.scatter / (self.count - 1)


def distance(first: Moments, second: Moments) -> float:
  """The squared Fréchet distance of two sets from their moments.

  Rounding may leave -1e-6 where the sets are equal; it is not hidden.
  """
  return _combine(
    first.mean, _root(first.covariance), second.mean, _root(second.covariance)
  )


def distance_of_features(first: np.ndarray, second: np.ndarray) -> float:
  """The same from features [N1, D] and [N2, D], exact also where N <= D."""
  means, factors = [], []
  for features in (first, second):
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2:
      raise ValueError(f"features: expected [N >= 2, D], found {x.shape}")
    means.append(x.mean(0))
    factor = (x - means[-1]) / np.sqrt(len(x) - 1)
    # A tall factor can be replaced by its triangle: S is the same.
    factors.append(np.linalg.qr(factor, mode="r") if len(x) > x.shape[1] else factor)
  return _combine(means[0], factors[0], means[1], factors[1])


def _root(covariance: np.ndarray) -> np.ndarray:
  """A with A^T A = covariance, from its eigenvalues; negative ones are rounding."""
  values, vectors = np.linalg.eigh(covariance)
  return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def _combine(mean1, root1, mean2, root2) -> float:
  if len(mean1) != len(mean2):
    raise ValueError(f"features of {len(mean1)} and of {len(mean2)} dimensions")
  cross = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
  means = np.sum((mean1 - mean2) ** 2)
  return float(means + np.sum(root1**2) + np.sum(root2**2) - 2 * cross)
