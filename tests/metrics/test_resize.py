"""Resizing rules: closed forms; the golden case holds the reference's values."""

import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.metrics import resize


@pytest.mark.parametrize("rule", resize.RULES)
@pytest.mark.parametrize(("height", "width"), [(20, 20), (50, 30), (24, 24)])
def test_a_constant_frame_stays_one(rule, height, width):
  frames = np.full((2, height, width, 3), 51, np.uint8)
  made = np.asarray(resize.to_unit(frames, 24, rule))
  assert made.shape == (2, 24, 24, 3)
  np.testing.assert_allclose(made, 51 / 127.5 - 1, atol=1e-6)


def test_what_has_the_size_is_not_touched():
  rng = np.random.default_rng(0)
  frames = rng.integers(0, 256, (1, 16, 16, 1), np.uint8)
  for rule in resize.RULES:
    made = np.asarray(resize.to_unit(frames, 16, rule))
    np.testing.assert_allclose(made, frames / 127.5 - 1, atol=1e-6)


def test_a_ramp_shows_where_the_centres_are():
  """TF1's centres are at o * in / out, the others' at (o + 1/2) in / out - 1/2."""
  ramp = np.tile(
    np.arange(0, 80, 10, dtype=np.uint8)[None, None, :, None], (1, 8, 1, 1)
  )
  row = {
    rule: (np.asarray(resize.to_unit(ramp, 16, rule))[0, 0, :, 0] + 1) * 127.5
    for rule in ("tf1_legacy", "half_pixel")
  }
  np.testing.assert_allclose(row["tf1_legacy"][:4], [0, 5, 10, 15], atol=1e-3)
  np.testing.assert_allclose(row["half_pixel"][:4], [0, 2.5, 7.5, 12.5], atol=1e-3)


def test_the_crop_is_of_the_middle():
  frames = np.zeros((1, 10, 30, 1), np.uint8)
  frames[:, :, 10:20] = 255
  made = np.asarray(resize.to_unit(frames, 10, "short_side_crop"))
  np.testing.assert_allclose(made, 1.0, atol=1e-6)


def test_an_unknown_rule():
  with pytest.raises(UserError, match="resize"):
    resize.to_unit(np.zeros((1, 8, 8, 1), np.uint8), 4, "lanczos")
