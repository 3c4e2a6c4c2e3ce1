"""Block extension: every frame once, one window length, nothing too early."""

import json

import numpy as np
import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError


def build(length, window, given=(), **options):
  return plans.build("blocks", length=length, given=given, window=window, **options)


@pytest.mark.parametrize(
  "length, window, given, overlap",
  [
    (8, 8, (), None),
    (9, 8, (), None),
    (40, 8, (), 4),
    (41, 8, (0, 1, 2), 0),
    (37, 8, (0, 5, 36), 7),
    (16, 8, tuple(range(16)), 4),
    (24, 8, tuple(range(10)), 2),
  ],
)
def test_each_missing_frame_is_sampled_once_in_windows_of_one_length(
  length, window, given, overlap
):
  stages = list(plans.stages(build(length, window, given, overlap=overlap)))
  latent = [int(i) for s in stages for i in s.index[0][s.latent[0]]]
  assert sorted(latent) == sorted(set(range(length)) - set(given))
  assert all(s.index.shape == (1, window) for s in stages)
  assert all(s.latent.any() for s in stages)


@pytest.mark.parametrize(
  "length, window, given, overlap, keep",
  [
    (8, 8, (0, 1), 3, 2),
    (8, 8, (0, 1), 7, 2),
    (41, 8, (0, 1, 2), 0, 3),
    (37, 8, (0, 5, 36), 7, 1),
    (24, 8, (), 2, 8),
  ],
)
def test_a_window_keeps_its_first_new_frames_alone(
  length, window, given, overlap, keep
):
  exists = set(given)
  for stage in plans.stages(build(length, window, given, overlap=overlap, keep=keep)):
    index = stage.index[0]
    missing = [i for i in index.tolist() if i not in exists]
    assert stage.index.shape == (1, window)
    assert index[stage.latent[0]].tolist() == missing[:keep]
    # All that exists is seen; the drafts behind are neither one nor the other.
    assert set(index[stage.observed[0]].tolist()) == exists & set(index.tolist())
    assert index[stage.padding[0]].tolist() == missing[keep:]
    exists |= set(missing[:keep])
  assert exists == set(range(length))


def test_overlap_is_what_the_next_window_sees():
  first, second = plans.stages(build(14, 8, overlap=2))
  np.testing.assert_array_equal(first.index[0], range(8))
  np.testing.assert_array_equal(second.index[0][second.observed[0]], [6, 7])
  np.testing.assert_array_equal(second.index[0], range(6, 14))


def test_the_state_survives_json_and_continues_the_plan():
  plan = build(40, 8, (0, 1), overlap=3)
  whole = [f.index.tolist() for f in plans.stages(plan)]
  again, state = [], plan.start()
  while (step := plan.next(json.loads(json.dumps(state)), None)) is not None:
    frames, state = step
    again.append(frames.index.tolist())
  assert again == whole


@pytest.mark.parametrize(
  "arguments, message",
  [
    (dict(name="block", length=8, given=(), window=8), "Did you mean 'blocks'"),
    (dict(name="blocks", length=4, given=(), window=8), "shorter than the model"),
    (
      dict(name="blocks", length=9, given=(), window=8, keep=0),
      "`keep=0`: expected >= 1",
    ),
    (dict(name="blocks", length=8, given=(8,), window=8), "expected 0 to 7"),
    (dict(name="blocks", length=8, given=(1, 1), window=8), "twice"),
    (dict(name="blocks", length=9, given=(), window=8, overlap=8), "overlap"),
    (dict(name="blocks", length=9, given=(), window=8, overlop=1), "mean 'overlap'"),
  ],
)
def test_mistakes_are_named(arguments, message):
  with pytest.raises(UserError, match=message):
    plans.build(**arguments)


class _Wrong:
  """A plan that yields the stages it was made with."""

  length, given = 4, (0,)

  def __init__(self, *stages):
    self.todo = stages

  def start(self):
    return {"at": 0}

  def next(self, state, video):
    from vdm_jax.frames import Frames

    if state["at"] == len(self.todo):
      return None
    index, observed = (np.array([x]) for x in self.todo[state["at"]])
    observed = observed.astype(bool)
    frames = Frames(index=index, observed=observed, latent=~observed, group=index * 0)
    return frames, {"at": state["at"] + 1}


@pytest.mark.parametrize(
  "stages, message",
  [
    ([([0, 1, 2], [1, 0, 0])], "never samples frames \\[3\\]"),
    ([([1, 2, 3], [0, 0, 0]), ([2, 3], [1, 0])], "twice"),
    ([([1, 2, 3], [1, 0, 0])], "before they exist"),
    ([([1, 2, 3, 4], [0, 0, 0, 0])], "outside"),
  ],
)
def test_a_wrong_plan_is_refused_before_anything_is_sampled(stages, message):
  with pytest.raises(UserError, match=message):
    list(plans.stages(_Wrong(*stages)))
