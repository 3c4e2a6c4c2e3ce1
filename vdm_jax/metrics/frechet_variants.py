"""How other codes compute the same Fréchet distance, where it makes a difference.

`frechet.distance_of_features` is the exact one; these are for numbers that must equal
another code's to the last digit that its root has.
"""

import warnings

import numpy as np
import scipy.linalg

from vdm_jax.metrics import frechet

# Below it TF-GAN's root leaves singular values as they are.
_TFGAN_EPS = 1e-10
_FIDELITY_EPS = 1e-6
_FIDELITY_IMAGINARY = 1e-3


def sqrtm(first: np.ndarray, second: np.ndarray, *, ddof: int = 1) -> float:
  """The real part of scipy's root of S1 S2: StyleGAN-V, MCVD, cd-fvd."""
  (mean1, cov1), (mean2, cov2) = _moments(first, ddof), _moments(second, ddof)
  with warnings.catch_warnings():  # Of fewer videos than dimensions, said elsewhere.
    warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
    root = scipy.linalg.sqrtm(cov1 @ cov2)
  return _combine(mean1, cov1, mean2, cov2, np.trace(root.real))


def fidelity(first: np.ndarray, second: np.ndarray) -> float:
  """The same as torch-fidelity and FDM have it; NaN where they give up."""
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


def tfgan(first: np.ndarray, second: np.ndarray, *, dtype: type = np.float64) -> float:
  """TF-GAN's symmetric roots by singular values; VideoGPT and TATS in float32."""
  mean1, cov1 = _moments(first.astype(dtype), 1, dtype)
  mean2, cov2 = _moments(second.astype(dtype), 1, dtype)

  def root(matrix):
    u, s, vt = np.linalg.svd(matrix)
    s = np.where(s < _TFGAN_EPS, s, np.sqrt(s))
    return (u * s) @ vt

  half = root(cov1)
  cross = np.trace(root(half @ cov2 @ half))
  return _combine(mean1, cov1, mean2, cov2, cross)


def eigenvalues(first: np.ndarray, second: np.ndarray) -> float:
  """From covariances alone; what `frechet.distance` of moments does."""
  return frechet.distance(frechet.Moments.of(first), frechet.Moments.of(second))


def _moments(features, ddof, dtype=np.float64):
  x = np.asarray(features, dtype)
  mean = x.mean(0)
  centred = x - mean
  return mean, centred.T @ centred / (len(x) - ddof)


def _combine(mean1, cov1, mean2, cov2, cross) -> float:
  means = np.sum(np.square(mean1 - mean2))
  return float(means + np.trace(cov1) + np.trace(cov2) - 2 * cross)
