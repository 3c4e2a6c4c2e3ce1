"""Motion read off pixels is the motion that the data set put there."""

import numpy as np
import pytest

from vdm_jax.data.builders import moving_digits
from vdm_jax.evaluation import motion


def real(name, count=12):
  """Clips uint8 [N, T, H, W, C] and the true positions [N, T, 2]."""
  config = moving_digits.MovingDigits.parse(name)
  clips = [moving_digits.generate(config, "test", index) for index in range(count)]
  videos = np.stack([clip.frames for clip in clips])
  return videos, np.stack([clip.positions[:, 0] for clip in clips])


@pytest.mark.parametrize(
  "name", ["16px_1digit_8frames", "32px_1digit_6frames_rgb", "20px_1digit_6frames"]
)
def test_equals_the_true_motion(name):
  videos, positions = real(name)
  truth = np.diff(positions, axis=1)
  np.testing.assert_allclose(motion.displacements(videos), truth, atol=1e-9)
  shift = motion.best_shift(videos, limit=4)
  np.testing.assert_array_equal(shift.offset, truth)
  np.testing.assert_allclose(shift.change, 0, atol=1e-12)


def test_faint_noise_hardly_moves_a_centroid():
  videos, positions = real("16px_1digit_8frames")
  noise = np.random.default_rng(0).integers(-12, 13, videos.shape)
  noisy = np.clip(videos + noise, 0, 255).astype(np.uint8)
  error = motion.displacements(noisy) - np.diff(positions, axis=1)
  assert np.abs(error).max() < 0.25


def test_change_is_between_nothing_and_all():
  videos, _ = real("16px_1digit_8frames")
  other = videos.copy()
  other[:, 1::2] = np.roll(videos, 1, axis=0)[:, 1::2]  # Another digit every time.
  change = motion.best_shift(other, 3).change
  assert 0.05 < change.min() and change.max() <= 1
  # A digit that leaves the frame has not just moved.
  vanishing = videos.copy()
  vanishing[:, 1::2] = 0
  np.testing.assert_allclose(motion.best_shift(vanishing, 3).change, 1)


def test_black_frames_are_nan_not_zero():
  black = np.zeros((2, 3, 16, 16, 1), np.uint8)
  assert np.isnan(motion.displacements(black)).all()
  assert np.isnan(motion.best_shift(black, 2).change).all()
  assert (motion.mass(black) == 0).all()
