"""RaMViD's and MCVD's tasks: which frames are given, and how often."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vdm_jax import tasks
from vdm_jax.errors import UserError


def draw(count, length=20, seed=0, **fields):
  task = tasks.build(fields)
  rng = np.random.default_rng(seed)
  return task, [task.sample(rng, [length]) for _ in range(count)]


def random_mask(count, **fields):
  fields = {"num_frames": 5, "max_observed": 2, **fields}
  return draw(count, name="random_mask", **fields)


def test_all_small_sets_are_given_and_all_else_is_sampled():
  _, draws = random_mask(1000)
  for selection in draws:
    np.testing.assert_array_equal(selection.latent, ~selection.observed)
    assert not selection.group.any() and not selection.source.any()
  found = {tuple(np.flatnonzero(s.observed)) for s in draws}
  sets = (itertools.combinations(range(5), k) for k in (1, 2))
  assert found == set(itertools.chain(*sets))


def test_sets_are_as_frequent_as_the_closed_form_says():
  count, frames, most, rate = 12_000, 6, 3, 0.25
  _, draws = random_mask(
    count, num_frames=frames, max_observed=most, uncondition_rate=rate
  )
  mask = np.stack([s.observed for s in draws])
  sizes = np.bincount(mask.sum(1))
  expected = np.array([rate] + [(1 - rate) / most] * most) * count
  assert stats.chisquare(sizes, expected).pvalue > 1e-4
  # Every frame as often as any other, and every pair.
  one = (1 - rate) * (most + 1) / (2 * frames)
  np.testing.assert_allclose(mask.mean(0), one, atol=5 * np.sqrt(one / count))
  k = np.arange(1, most + 1)
  two = (1 - rate) / most * np.sum(k * (k - 1)) / (frames * (frames - 1))
  together = (mask.T.astype(int) @ mask)[np.triu_indices(frames, 1)] / count
  np.testing.assert_allclose(together, two, atol=5 * np.sqrt(two / count))


def test_a_clip_is_drawn_from_the_whole_video_its_last_window_too():
  task, draws = random_mask(500, length=12, stride=2, flip=True)
  assert task.min_length == 9
  assert {int(s.index[0]) for s in draws} == {0, 1, 2, 3}
  assert all((np.diff(s.index) == 2).all() for s in draws)
  assert {s.flip for s in draws} == {True, False}


def test_nothing_is_given_at_a_rate_of_one():
  _, draws = random_mask(50, uncondition_rate=1.0)
  assert not any(s.observed.any() for s in draws)


def test_only_slots_of_the_range_are_given():
  _, draws = random_mask(300, mask_range=(1, 4))
  assert {int(i) for s in draws for i in np.flatnonzero(s.observed)} == {1, 2, 3}


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"max_observed": 0}, r"max_observed: expected 1 to 5.*found 0"),
    ({"max_observed": 6}, r"max_observed: expected 1 to 5.*found 6"),
    ({"max_observed": 5}, r"max_observed: 5 of 5 frames given would leave no frame"),
    ({"max_observed": 3, "mask_range": (0, 2)}, r"expected 1 to 2.*found 3"),
    ({"mask_range": (0, 6)}, r"mask_range: .*within 0 to 5, found \(0, 6\)"),
    ({"mask_range": (3, 3)}, r"mask_range: .*found \(3, 3\)"),
    ({"mask_range": (0, 1, 6)}, r"mask_range: .*found \(0, 1, 6\)"),
    ({"uncondition_rate": 1.5}, r"uncondition_rate: expected 0 to 1, found 1.5"),
  ],
)
def test_impossible_masks_are_named(fields, message):
  with pytest.raises(UserError, match=message):
    random_mask(0, **fields)


def past_future(count, **fields):
  fields = {"num_past": 2, "num_current": 3, "num_future": 1, **fields}
  return draw(count, name="past_future", **fields)


PAST, FUTURE = (0, 1), (5,)


@pytest.mark.parametrize(
  "fields, given",
  [
    ({}, {PAST + FUTURE}),
    ({"drop_past": 1.0}, {FUTURE}),
    ({"drop_future": 1.0}, {PAST}),
    ({"num_future": 0, "drop_past": 0.5}, {PAST, ()}),
    ({"drop_past": 0.5}, {PAST + FUTURE, FUTURE}),
    (
      {"drop_past": 0.5, "drop_future": 0.5},
      {PAST + FUTURE, PAST, FUTURE, ()},
    ),
    ({"drop_past": 0.5, "drop_future": 0.5, "sync": True}, {PAST + FUTURE, ()}),
  ],
)
def test_past_and_future_are_given_or_sampled_as_a_whole(fields, given):
  task, draws = past_future(200, **fields)
  assert task.num_frames == task.min_length == 5 + fields.get("num_future", 1)
  assert task.window == task.num_frames
  assert task.min_given == (0 if fields.get("drop_past") else 2)
  assert {tuple(np.flatnonzero(s.observed)) for s in draws} == given
  assert all((s.latent == ~s.observed).all() for s in draws)


def test_sides_are_hidden_as_often_as_asked():
  _, draws = past_future(4000, drop_past=0.2, drop_future=0.7)
  hidden = np.mean([~s.observed[[0, 5]] for s in draws], axis=0)
  np.testing.assert_allclose(hidden, [0.2, 0.7], atol=4 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"num_current": 0}, "num_current: expected >= 1, found 0"),
    ({"num_past": -1}, "num_past: expected >= 0, found -1"),
    ({"drop_future": 2.0}, "drop_future: expected 0 to 1, found 2.0"),
    ({"drop_past": 0.5, "sync": True}, "sync: .*drop_past is 0.5 and drop_future 0.0"),
    ({"stride": 0}, "stride: expected >= 1, found 0"),
  ],
)
def test_impossible_parts_are_named(fields, message):
  with pytest.raises(UserError, match=message):
    past_future(0, **fields)
