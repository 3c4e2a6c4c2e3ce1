"""Frames: who attends to whom, and what is refused."""

import jax
import numpy as np
import pytest

from vdm_jax import frames as frames_lib
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames


def make(index, observed, latent, group) -> Frames:
  return Frames(
    index=np.array([index], np.int32),
    observed=np.array([observed], bool),
    latent=np.array([latent], bool),
    group=np.array([group], np.int32),
  )


def test_frames_attend_within_their_group_and_padding_only_to_padding():
  frames = make([0, 1, 5, 9], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0])
  expected = np.zeros((4, 4), bool)
  expected[:2, :2] = expected[2, 2] = expected[3, 3] = True
  np.testing.assert_array_equal(frames.attends()[0], expected)
  np.testing.assert_array_equal(frames.padding[0], [0, 0, 0, 1])
  assert frames.distances()[0, 2, 0] == 5


def test_clip_counts_observed_slots_from_both_ends():
  frames = frames_lib.clip(2, 5, observed=(0, -1), stride=3)
  np.testing.assert_array_equal(frames.index, [[0, 3, 6, 9, 12]] * 2)
  np.testing.assert_array_equal(frames.observed, [[1, 0, 0, 0, 1]] * 2)


def test_the_spec_is_that_of_frames():
  made = jax.eval_shape(lambda: frames_lib.clip(2, 5, observed=(0,)))
  assert frames_lib.spec(2, 5) == made


@pytest.mark.parametrize("observed", [(5,), (-6,), (1, 1), (1, -4)])
def test_clip_refuses_slots_outside_or_twice(observed):
  with pytest.raises(UserError, match="observed frame"):
    frames_lib.clip(1, 5, observed=observed)
