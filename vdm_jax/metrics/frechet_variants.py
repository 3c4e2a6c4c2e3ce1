"""The Fréchet distance as other codes compute it, where that makes a difference.

`frechet.distance_of_features` is exact; these are for numbers that must equal another
code's to every digit that its root gets right.
"""

import warnings

import numpy as np
import scipy.linalg
from jaxtyping import Float

from vdm_jax.metrics import frechet

# TF-GAN's root leaves smaller singular values as they are.
_TFGAN_EPS = 1e-10
_FIDELITY_EPS = 1e-6
_FIDELITY_IMAGINARY = 1e-3


def sqrtm(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  ddof: int = 1,
) -> float:
  """Takes the real part of scipy's root of S1 S2, as StyleGAN-V, MCVD and cd-fvd do."""
  (mean1, cov1), (mean2, cov2) = _moments(first, ddof), _moments(second, ddof)
  with warnings.catch_warnings():  # Too few videos, which the protocol reports.
    warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
    root = scipy.linalg.sqrtm(cov1 @ cov2)
  return _combine(mean1, cov1, mean2, cov2, np.trace(root.real))


def fidelity(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
) -> float:
  """Takes the root as torch-fidelity and FDM do; NaN where they fail."""
  (mean1, cov1), (mean2, cov2) = _moments(first, 1), _moments(second, 1)
  root = scipy.linalg.sqrtm(cov1 @ cov2)
  if not np.isfinite(root).all():
    offset = _FIDELITY_EPS * np.eye(len(cov1))
    root = scipy.linalg.sqrtm((cov1 + offset) @ (cov2 + offset))
  if np.iscomplexobj(root):
    if not np.allclose(np.diagonal(root).imag, 0, atol=_FIDELITY_IMAGINARY):
      return float("nan")
    root = root.real
  return _combine(mean1, cov1, mean2, cov2, np.trace(root))


def tfgan(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
  *,
  ddof: int = 1,
  dtype: type = np.float64,
) -> float:
  """Takes symmetric roots by SVD, as TF-GAN does; VideoGPT and TATS use float32."""
  mean1, cov1 = _moments(first.astype(dtype), ddof, dtype)
  mean2, cov2 = _moments(second.astype(dtype), ddof, dtype)

  def root(matrix):
    u, s, vt = np.linalg.svd(matrix)
    s = np.where(s < _TFGAN_EPS, s, np.sqrt(s))
    return (u * s) @ vt

  half = root(cov1)
  cross = np.trace(root(half @ cov2 @ half))
  return _combine(mean1, cov1, mean2, cov2, cross)


def eigenvalues(
  first: Float[np.ndarray, "n1 d"],
  second: Float[np.ndarray, "n2 d"],
) -> float:
  """Computes the distance from covariances alone, as `frechet.distance` does."""
  return frechet.distance(frechet.Moments.of(first), frechet.Moments.of(second))


def _moments(features, ddof, dtype=np.float64):
  x = np.asarray(features, dtype)
  mean = x.mean(0)
  centred = x - mean
  return mean, centred.T @ centred / (len(x) - ddof)


def _combine(mean1, cov1, mean2, cov2, cross) -> float:
  means = np.sum(np.square(mean1 - mean2))
  return float(means + np.trace(cov1) + np.trace(cov2) - 2 * cross)
