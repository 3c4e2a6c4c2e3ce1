"""Sampling with frames that stand clean in the network's input (RaMViD)."""

import functools

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import sampling, systems
from vdm_jax.errors import UserError

SHAPE = (8, 8, 1)


@functools.cache
def model():
  config = helpers.load_config("ramvid_digits")
  config["data"]["frame_shape"] = SHAPE
  config["task"] |= {"num_frames": 4, "max_observed": 2}
  config["model"] |= {"channel_mults": (1,), "attention_resolutions": ()}
  config["sampling"] |= {"steps": 3}
  config["plan"]["overlap"] = 2
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  return sampling.Model(system, params, {"config": config, "step": 0})


def clip(*shape, seed=0):
  values = np.random.default_rng(seed).uniform(-1, 1, (*shape, *SHAPE))
  return values.astype(np.float32)


@pytest.mark.parametrize("places", [(0, 1), (0, 3), (0, 2)])
def test_given_frames_come_back_and_matter(places):
  given = clip(2)
  out = model().sample(1, given=given, given_frames=places)
  np.testing.assert_array_equal(out[0, list(places)], given)
  rest = sorted(set(range(4)) - set(places))
  other = model().sample(1, given=-given, given_frames=places)
  assert np.abs(out[:, rest] - other[:, rest]).max() > 1e-3
  swapped = model().sample(1, given=given[::-1], given_frames=places)
  assert np.abs(out[:, rest] - swapped[:, rest]).max() > 1e-3


def test_given_frames_as_the_network_leaves_them():
  options = {"given": clip(2), "given_frames": (0, 2)}
  restored = model().sample(1, **options)
  left = model().sample(1, restore_given=False, **options)
  np.testing.assert_array_equal(left[:, [1, 3]], restored[:, [1, 3]])
  assert np.abs(left[:, [0, 2]] - restored[:, [0, 2]]).max() > 1e-3


def test_resampling_is_for_given_frames_alone():
  free = model().sample(1, plan="fill")
  np.testing.assert_array_equal(model().sample(1, plan="fill", resample=2), free)
  options = {"given": clip(1), "given_frames": (1,)}
  once, twice = (model().sample(1, resample=r, **options) for r in (1, 2))
  assert np.abs(once - twice).max() > 1e-3


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp_2m", "langevin"])
def test_every_sampler_takes_given_frames(sampler):
  given = clip(1)
  out = model().sample(1, sampler=sampler, given=given, given_frames=(2,))
  np.testing.assert_array_equal(out[0, 2], given[0])
  assert np.isfinite(out).all() and np.abs(out).max() <= 1.0


@pytest.mark.parametrize(
  "plan, options",
  [
    ("blocks", {}),
    ("extension", {"prediction_step": 2, "max_cond": 2}),
  ],
)
def test_long_videos_go_on_from_their_own_frames(plan, options):
  """A second batch does not continue the first one's videos."""
  count, devices = jax.device_count() + 3, jax.device_count()
  given = clip(count, 1)
  ask = {"length": 7, "given_frames": (0,), "plan": plan, "plan_options": options}
  one = model().sample(count, given=given, batch_size=2 * devices, **ask)
  two = model().sample(count, given=given, batch_size=devices, **ask)
  assert one.shape == (count, 7, *SHAPE)
  np.testing.assert_array_equal(one[:, 0], given[:, 0])
  np.testing.assert_allclose(two, one, atol=1e-3)
  # Number `devices` is the first of the second batch.
  assert np.abs(two[0, 1:] - two[devices, 1:]).max() > 1e-3


@pytest.mark.parametrize(
  "places, message",
  [((4,), "given frame 4: expected 0 to 3"), ((-1,), "given frame -1"),
   ((1, 1), "names a frame twice")],
)  # fmt: skip
def test_impossible_places_are_named(places, message):
  with pytest.raises(UserError, match=message):
    model().sample(1, given=clip(len(places)), given_frames=places)


def test_windows_of_scattered_frames_are_refused():
  with pytest.raises(UserError, match=r"holds frames \[0, 2\].* consecutive"):
    model().sample(1, given=clip(1), length=6, plan=f"{__file__}:every_other")


def test_a_model_without_a_recurrent_state_has_no_whole_roll_out():
  with pytest.raises(UserError, match="a 'ramvid' model samples window by window"):
    model().sample(1, whole=True)


def every_other(*, length, given, window):
  """A plan whose first window skips a frame."""
  yield [0], [2]
  yield [0, 2], [i for i in range(length) if i not in (0, 2)]
