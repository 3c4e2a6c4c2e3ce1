"""Differences of frames from true ones: PSNR and SSIM, and the best of several.

Frames are float in [0, 1], channels last. Everything is per frame and in float64.
"""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
import scipy.stats
from jaxtyping import ArrayLike, Float, Float64, UInt8

from vdm_jax.errors import UserError, unknown

# The two conventions of SSIM: the window of Wang et al. 2004, a Gaussian of 11 taps
# with the window's own covariances; and scikit-image's default, a uniform 7 x 7 window
# with sample covariances.
SSIM_WINDOWS = ("gaussian", "uniform")
_SIGMA, _RADIUS = 1.5, 5
_UNIFORM = 7
_K1, _K2 = 0.01, 0.03
SSIM_MIN_SIZE = 2 * _RADIUS + 1
# Weights of R, G, B in the luminance, as in MAGVIT and scikit-image.
BT709 = (0.2125, 0.7154, 0.0721)


def psnr(
  frames: Float[np.ndarray, "*lead h w c"], truth: Float[np.ndarray, "*#lead h w c"]
) -> Float64[np.ndarray | np.float64, "*lead"]:
  """Computes PSNR in dB; inf if they are equal."""
  difference = np.asarray(frames, np.float64) - truth
  return pooled_psnr(np.mean(np.square(difference), axis=(-3, -2, -1)))


def pooled_psnr(
  error: Float[ArrayLike, "*lead"],
) -> Float64[np.ndarray | np.float64, "*lead"]:
  """Computes the PSNR of a mean squared error, in dB; inf for zero.

  "Pooled" means that squared errors are averaged over clips and frames before the
  logarithm, so that a frame that is predicted exactly, whose own PSNR is infinite,
  counts like any other. MCVD averages over the frames of a clip.
  """
  with np.errstate(divide="ignore"):
    return -10 * np.log10(np.asarray(error, np.float64))


def psnr_of_channels(
  frames: Float[np.ndarray, "*lead h w c"], truth: Float[np.ndarray, "*#lead h w c"]
) -> Float64[np.ndarray | np.float64, "*lead"]:
  """Averages the PSNR of the channels, as FDM's older evaluation does."""
  difference = np.asarray(frames, np.float64) - truth
  return pooled_psnr(np.mean(np.square(difference), axis=(-3, -2))).mean(-1)


def ssim(
  frames: Float[np.ndarray, "*lead h w c"],
  truth: Float[np.ndarray, "*#lead h w c"],
  *,
  window: str = "gaussian",
  data_range: float = 1.0,
) -> Float64[np.ndarray | np.float64, "*lead"]:
  """Computes structural similarity, in [-1, 1].

  Places closer to the border than the window's radius are left out; the mean is over
  places and channels. 'gaussian' (Wang et al. 2004) equals scikit-image with
  `gaussian_weights=True, use_sample_covariance=False`, `tf.image.ssim` and
  pytorch_msssim; 'uniform' equals scikit-image's default.

  Args:
    frames: frames to measure.
    truth: true frames.
    window: one of `SSIM_WINDOWS`, whose numbers cannot be compared.
    data_range: largest difference of values; FDM's older evaluation took 2 for frames
      in [0, 1].

  Raises:
    UserError: frames are smaller than the window, or there is no such window.
  """
  if window not in SSIM_WINDOWS:
    raise unknown("SSIM window", window, SSIM_WINDOWS)
  x, y = np.asarray(frames, np.float64), np.asarray(truth, np.float64)
  size = SSIM_MIN_SIZE if window == "gaussian" else _UNIFORM
  if min(x.shape[-3:-1]) < size:
    raise UserError(
      f"SSIM: expected frames of {size} pixels or more, found "
      f"{x.shape[-3]} x {x.shape[-2]}"
    )
  smooth = _gaussian if window == "gaussian" else _uniform
  norm = 1.0 if window == "gaussian" else _UNIFORM**2 / (_UNIFORM**2 - 1)
  c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
  mean_x, mean_y = smooth(x), smooth(y)
  var_x = norm * (smooth(x * x) - mean_x**2)
  var_y = norm * (smooth(y * y) - mean_y**2)
  covariance = norm * (smooth(x * y) - mean_x * mean_y)
  similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
  similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
  return similarity.mean((-3, -2, -1))


def _gaussian(x: np.ndarray) -> np.ndarray:
  """Averages over the Gaussian window around every place that has a whole one."""
  for axis in (-3, -2):
    x = scipy.ndimage.gaussian_filter1d(x, _SIGMA, axis=axis, radius=_RADIUS)
  inner = slice(_RADIUS, -_RADIUS)
  return x[..., inner, inner, :]


def _uniform(x: np.ndarray) -> np.ndarray:
  for axis in (-3, -2):
    x = scipy.ndimage.uniform_filter1d(x, _UNIFORM, axis=axis)
  inner = slice(_UNIFORM // 2, -(_UNIFORM // 2))
  return x[..., inner, inner, :]


def gray(
  frames: Float[np.ndarray, "*lead h w 3"],
) -> Float64[np.ndarray, "*lead h w 1"]:
  """Computes luminance of RGB frames (BT.709)."""
  return (np.asarray(frames, np.float64) @ np.asarray(BT709))[..., None]


def gray_8bit(
  frames: UInt8[np.ndarray, "*lead h w 3"],
) -> UInt8[np.ndarray, "*lead h w 1"]:
  """Computes luminance of 8-bit RGB frames as Pillow's mode L (BT.601)."""
  x = frames.astype(np.uint32)
  total = 19595 * x[..., 0] + 38470 * x[..., 1] + 7471 * x[..., 2] + 0x8000
  return (total >> 16).astype(np.uint8)[..., None]


def truncated(
  frames: Float[np.ndarray, "*lead h w c"],
) -> UInt8[np.ndarray, "*lead h w c"]:
  """Converts frames in [0, 1] to uint8, truncated instead of rounded, as in MCVD."""
  return (np.asarray(frames, np.float32) * 255).astype(np.uint8)


class OfBest(NamedTuple):
  """Statistics of the best of several predictions of each clip.

  Attributes:
    mean: mean over clips.
    std: population standard deviation over clips.
    half_width: half the width of the mean's 95 % interval, from the sample deviation.
  """

  mean: float
  std: float
  half_width: float


def best_of(
  values: Float[np.ndarray, "clips predictions"], *, least: bool = False
) -> OfBest:
  """Takes the best prediction of each clip, chosen for this measure alone (MCVD).

  Clips of which a value is not finite are left out, like the PSNR of a prediction that
  is exact.

  Args:
    values: the measure, of each prediction of each clip.
    least: whether the smallest value is best.

  Returns:
    The statistics; NaN if no clip is left.
  """
  values = values[np.isfinite(values).all(1)]
  if not len(values):
    return OfBest(float("nan"), float("nan"), float("nan"))
  best = values.min(1) if least else values.max(1)
  half = float("nan")
  if len(best) > 1:
    error = best.std(ddof=1) / np.sqrt(len(best))
    half = float(scipy.stats.norm.ppf(0.975) * error)
  return OfBest(float(best.mean()), float(best.std()), half)
