"""Rules of protocol `images`: how the papers' scripts measure predicted frames.

The same two clips have a different PSNR and SSIM by each of the four rules, so numbers
of different rules cannot be compared. `known` says where a rule is known from, as in
`presets`.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image

from vdm_jax.metrics import image

Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
  """One way to measure clips.

  Attributes:
    text: description of the rule.
    known: 'read' or 'ours'.
    psnr, ssim: functions of uint8 [..., T, H, W, C] and the broadcast truth, to
      [..., T] or, if frames are pooled, [..., 1]; inf for exactly predicted frames.
    least: smallest height and width for `ssim`.
    lpips_size: height and width that frames are resized to for LPIPS; 0 keeps theirs.
  """

  text: str
  known: str
  psnr: Measure
  ssim: Measure
  least: int = image.SSIM_MIN_SIZE
  lpips_size: int = 0


def _unit(frames: np.ndarray) -> np.ndarray:
  return frames.astype(np.float64) / 255.0


def _of_units(measure: Measure, **options) -> Measure:
  return lambda x, y: measure(_unit(x), _unit(y), **options)


def _mcvd_psnr(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  error = np.square(_unit(frames) - _unit(truth)).mean((-4, -3, -2, -1))
  return image.pooled_psnr(error)[..., None]


def _mcvd_ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  def gray(x):
    cut = image.truncated(x / 255.0)
    return (image.gray_8bit(cut) if x.shape[-1] == 3 else cut).astype(np.float64)

  return image.ssim(gray(frames), gray(truth), data_range=255.0)


def _magvit_ssim(frames: np.ndarray, truth: np.ndarray) -> np.ndarray:
  def gray(x):
    return image.gray(_unit(x)) if x.shape[-1] == 3 else _unit(x)

  return image.ssim(gray(frames), gray(truth))


RULES = {
  "plain": Rule(
    "PSNR per frame; SSIM of Wang et al. per frame and channel", "ours",
    _of_units(image.psnr), _of_units(image.ssim),
  ),
  "mcvd": Rule(
    "PSNR of a clip's mean squared error; SSIM (Wang) of frames cut to 8 bits, in "
    "gray; LPIPS of frames resized to 128", "read",
    _mcvd_psnr, _mcvd_ssim, lpips_size=128,
  ),
  "fdm": Rule(
    "PSNR per frame and channel; SSIM of a uniform 7x7 window per channel, range 2 for "
    "values in [0, 1] as old scikit-image took it", "read",
    _of_units(image.psnr_of_channels),
    _of_units(image.ssim, window="uniform", data_range=2.0), least=7,
  ),
  "magvit": Rule(
    "PSNR per frame; SSIM (Wang) in gray (BT.709)", "read",
    _of_units(image.psnr), _magvit_ssim,
  ),
}  # fmt: skip


def resized(frames: np.ndarray, size: int) -> np.ndarray:
  """Resizes frames uint8 [T, H, W, 1 or 3] to squares by Pillow's bilinear filter."""
  gray = frames.shape[-1] == 1
  made = [
    np.asarray(
      Image.fromarray(frame[..., 0] if gray else frame).resize(
        (size, size), Image.Resampling.BILINEAR
      )
    )
    for frame in frames
  ]
  return np.stack(made)[..., None] if gray else np.stack(made)
