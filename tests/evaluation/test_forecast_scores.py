"""Scores by lead time, and the forecasts that need no learning."""

import numpy as np
import pytest

from vdm_jax.data.builders import moving_digits
from vdm_jax.evaluation import forecast_scores
from vdm_jax.metrics import crps, image


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_scores_are_those_of_all_frames_at_once():
  members, truth = noise(3, 4, 12, 12, 2), noise(4, 12, 12, 2, seed=1)
  found = forecast_scores.score(members, truth)
  x, y = members / 255, truth / 255
  pixels = crps.crps(x, y)
  np.testing.assert_allclose(found["crps"], pixels.mean((1, 2, 3)))
  psnr = image.psnr(x, np.broadcast_to(y, x.shape))
  np.testing.assert_allclose(found["psnr"], psnr.mean(0))
  np.testing.assert_allclose(found["psnr_of_mean"], image.psnr(x.mean(0), y))
  # Chosen once for the clip, by its mean: not the best of every frame.
  np.testing.assert_array_equal(found["psnr_best"], psnr[psnr.mean(1).argmax()])
  assert (found["psnr_best"] < psnr.max(0)).any()
  assert (found["crps_fair"] < found["crps"]).all()


def test_a_perfect_forecast():
  truth = noise(2, 12, 12, 1)
  found = forecast_scores.score_point(truth, truth)
  for key in ("crps", "crps_fair"):
    np.testing.assert_array_equal(found[key], 0)
  np.testing.assert_array_equal(found["mse"], 0)
  assert np.isnan(found["psnr"]).all()  # Infinite: in no mean.
  np.testing.assert_allclose(found["ssim_best"], 1)


def test_a_sure_forecast_has_its_absolute_error_as_score():
  made, truth = noise(2, 8, 8, 1), noise(2, 8, 8, 1, seed=1)
  error = np.abs(made / 255 - truth / 255).mean((1, 2, 3))
  found = forecast_scores.score_point(made, truth)
  np.testing.assert_allclose(found["crps"], error)
  np.testing.assert_allclose(found["crps_fair"], error)
  assert np.isnan(found["ssim"]).all()  # Smaller than its window.


def test_one_member_has_no_fair_score():
  found = forecast_scores.score(noise(1, 2, 12, 12, 1), noise(2, 12, 12, 1, seed=1))
  assert np.isnan(found["crps_fair"]).all() and np.isfinite(found["crps"]).all()


def test_means_over_clips():
  clips = [
    {key: np.array([value, value + 2.0]) for key in forecast_scores.SCORES}
    for value in (1.0, 3.0, 8.0)
  ]
  found = forecast_scores.mean_by_lead(clips)["crps"]
  np.testing.assert_allclose(found["by_lead"], [4, 6])
  spread = np.std([1, 3, 8], ddof=1) / np.sqrt(3)
  np.testing.assert_allclose(found["error_by_lead"], spread)
  assert found["mean"] == 5 and found["error"] == pytest.approx(spread)
  assert np.isnan(forecast_scores.mean_by_lead(clips[:1])["crps"]["error"])


def test_pooled_psnr_is_of_the_mean_error_and_bears_exact_frames():
  truth = np.zeros((2, 12, 12, 1), np.uint8)
  off = truth.copy()
  off[1] = 51  # A fifth of the range: 14 dB.
  clips = [
    forecast_scores.score_point(off, truth),
    forecast_scores.score_point(truth, truth),
  ]
  found = forecast_scores.mean_by_lead(clips)
  assert found["psnr"]["mean"] == pytest.approx(20 * np.log10(5))
  # One frame of four is off: a fourth of its squared error.
  assert found["psnr_pooled"]["mean"] == pytest.approx(-10 * np.log10(0.04 / 4))
  assert np.isinf(found["psnr_pooled"]["by_lead"][0])


def test_error_of_a_pooled_psnr_is_that_of_repeated_draws():
  rng = np.random.default_rng(0)

  def pooled():
    clips = [
      {key: rng.exponential(size=3) for key in forecast_scores.SCORES}
      for _ in range(200)
    ]
    return forecast_scores.mean_by_lead(clips)["psnr_pooled"]

  draws = [pooled() for _ in range(200)]
  spread = np.std([draw["mean"] for draw in draws])
  assert np.mean([draw["error"] for draw in draws]) == pytest.approx(spread, rel=0.2)


def test_constant_velocity_is_right_until_the_digit_meets_a_wall():
  config = moving_digits.MovingDigits.parse("32px_1digit_12frames_12digitpx")
  steps = 0
  for index in range(12):
    clip = moving_digits.generate(config, "test", index)
    moved = np.diff(clip.positions[:, 0], axis=0)
    turned = np.any(moved[2:] != moved[1], axis=1)
    until = int(turned.argmax()) if turned.any() else 9
    made = forecast_scores.constant_velocity(clip.frames[:3], 9)
    np.testing.assert_array_equal(made[:until], clip.frames[3 : 3 + until])
    steps += until
  assert steps > 30


def test_what_comes_in_has_the_colour_of_the_border():
  context = np.full((2, 8, 8, 3), 40, np.uint8)
  context[0, 3:5, 2:4], context[1, 3:5, 4:6] = 200, 200
  made = forecast_scores.constant_velocity(context, 4)
  np.testing.assert_array_equal(made[0, 3:5, 6:8], 200)
  np.testing.assert_array_equal(made[1:], 40)  # Gone, and nothing wraps around.
  copied = forecast_scores.baselines(context[:1], 2)
  assert list(copied) == ["last frame copied"]
  np.testing.assert_array_equal(copied["last frame copied"][1], context[0])
