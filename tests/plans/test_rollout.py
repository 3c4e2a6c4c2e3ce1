"""Roll-out: one frame after the other, from the first ones given."""

import json

import numpy as np
import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError


def build(length, given, **options):
  return plans.build("rollout", length=length, given=given, window=4, **options)


def test_a_first_window_of_all_given_frames_then_the_last_and_the_next():
  stages = list(plans.stages(build(7, (0, 1, 2, 3))))
  assert [stage.index.tolist() for stage in stages] == [
    [[0, 1, 2, 3, 4]],
    [[4, 5]],
    [[5, 6]],
  ]
  for stage in stages:
    # The last slot alone is latent, the others are observed: two shapes in all.
    slots = np.arange(stage.index.shape[1])
    np.testing.assert_array_equal(stage.latent[0], slots == slots[-1])
    np.testing.assert_array_equal(stage.observed, ~stage.latent)
    assert not stage.group.any()


def test_a_complete_video_has_no_stage():
  assert not list(plans.stages(build(2, (0, 1))))


def test_the_state_survives_json():
  plan = build(6, (0, 1))
  state, found = plan.start(), []
  while (following := plan.next(json.loads(json.dumps(state)), None)) is not None:
    frames, state = following
    found.append(int(frames.index[0, -1]))
  assert found == [2, 3, 4, 5]


@pytest.mark.parametrize(
  "given, context, message",
  [
    ((0,), 2, "predicts from at least 2 frames, found 1 given"),
    ((), 1, "predicts from at least 1 frames, found 0 given"),
    ((0, 2), 1, r"expected the first frames of the video, found \[0, 2\]"),
  ],
)
def test_frames_that_it_cannot_start_from_are_named(given, context, message):
  with pytest.raises(UserError, match=message):
    build(5, given, context=context)
