"""PSNR and SSIM against their definitions."""

import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.metrics import image


def frames(count=2, height=14, width=17, channels=3, seed=0):
  return np.random.default_rng(seed).uniform(size=(count, height, width, channels))


def test_equal_frames():
  x = frames()
  np.testing.assert_allclose(image.ssim(x, x), 1.0)
  assert np.isinf(image.psnr(x, x)).all()


def test_the_best_of_clips_that_have_a_measure():
  values = np.array([[1.0, 3.0], [np.inf, 2.0], [2.0, np.nan], [5.0, 4.0]])
  assert image.best_of(values) == image.best_of(values[[0, 3]])
  assert (
    image.best_of(values).mean == 4 and image.best_of(values, least=True).std == 1.5
  )
  assert np.isnan(image.best_of(values[1:3])).all()


def test_psnr_of_a_known_error():
  x = frames()
  np.testing.assert_allclose(image.psnr(x + 0.1, x), 20.0)


def test_ssim_equals_a_window_after_the_other():
  """Wang et al. 2004, equation 13, place by place."""
  x, y = frames(seed=1)[0], frames(seed=2)[0]
  taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
  window = np.outer(taps, taps) / taps.sum() ** 2
  values = []
  for channel in range(3):
    for top in range(14 - 10):
      for left in range(17 - 10):
        a, b = (f[top : top + 11, left : left + 11, channel] for f in (x, y))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a = (window * (a - mean_a) ** 2).sum()
        var_b = (window * (b - mean_b) ** 2).sum()
        both = (window * (a - mean_a) * (b - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
        values.append(luminance * (2 * both + 9e-4) / (var_a + var_b + 9e-4))
  assert image.ssim(x, y) == pytest.approx(np.mean(values), rel=1e-9)


def test_ssim_falls_with_noise():
  x = np.broadcast_to(np.linspace(0, 1, 20)[:, None, None], (20, 20, 1))
  noise = np.random.default_rng(0).standard_normal(x.shape)
  values = [image.ssim(x + scale * noise, x) for scale in (0.01, 0.05, 0.2)]
  assert 1 > values[0] > values[1] > values[2]


def test_frames_smaller_than_the_window_are_refused():
  with pytest.raises(UserError, match="11 pixels or more, found 10 x 17"):
    image.ssim(frames(height=10), frames(height=10))
