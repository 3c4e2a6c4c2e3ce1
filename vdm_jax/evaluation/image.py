"""How far frames are from true ones: PSNR and SSIM.

Frames are float in [0, 1], channels last; everything is per frame and in float64.
"""

import numpy as np
import scipy.ndimage

from vdm_jax.errors import UserError

# Of SSIM (Wang et al. 2004): a Gaussian window of 11 taps, and the constants for a
# data range of 1.
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2
SSIM_MIN_SIZE = 2 * _RADIUS + 1


def psnr(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Peak signal-to-noise ratio in dB, [...] of frames [..., H, W, C]; inf if equal."""
  difference = np.asarray(frames, np.float64) - truth
  error = np.mean(np.square(difference), axis=(-3, -2, -1))
  with np.errstate(divide="ignore"):
    return -10 * np.log10(error)


def pooled_psnr(error: np.ndarray) -> np.ndarray:
  """The PSNR of a mean squared error, in dB; inf for zero.

  "Pooled": squared errors are averaged over clips and frames before the logarithm, so
  that a frame that is met exactly, whose own PSNR is infinite, counts like any other.
  """
  with np.errstate(divide="ignore"):
    return -10 * np.log10(np.asarray(error, np.float64))


def ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Structural similarity in [-1, 1], [...] of frames [..., H, W, C].

  The form of Wang et al. 2004: Gaussian window (sigma 1.5, 11 taps), covariances over
  the window's weights, places closer than 5 pixels to the border left out, mean over
  places and channels. Equals scikit-image with `gaussian_weights=True,
  use_sample_covariance=False`, and `tf.image.ssim`.

  Raises:
    UserError: frames are smaller than the window.
  """
  x, y = np.asarray(frames, np.float64), np.asarray(truth, np.float64)
  if min(x.shape[-3:-1]) < SSIM_MIN_SIZE:
    raise UserError(
      f"SSIM: expected frames of {SSIM_MIN_SIZE} pixels or more, found "
      f"{x.shape[-3]} x {x.shape[-2]}"
    )
  mean_x, mean_y = _smooth(x), _smooth(y)
  var_x = _smooth(x * x) - mean_x**2
  var_y = _smooth(y * y) - mean_y**2
  covariance = _smooth(x * y) - mean_x * mean_y
  similarity = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
  similarity = similarity / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))
  return similarity.mean((-3, -2, -1))


def _smooth(x: np.ndarray) -> np.ndarray:
  """Means over the window around every place that has a whole one."""
  for axis in (-3, -2):
    x = scipy.ndimage.gaussian_filter1d(x, _SIGMA, axis=axis, radius=_RADIUS)
  inner = slice(_RADIUS, -_RADIUS)
  return x[..., inner, inner, :]
