"""Given frames next to each frame, and the networks that are shown them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from tests.models.test_patches import small
from vdm_jax.frames import Frames
from vdm_jax.models import given


def frames(index, observed, group=None):
  index, observed = jnp.asarray([index]), jnp.asarray([observed], bool)
  group = jnp.zeros_like(index) if group is None else jnp.asarray([group])
  return Frames(index=index, observed=observed, latent=~observed, group=group)


def numbered(count):
  """A video whose frame t is t + 1 everywhere."""
  video = jnp.arange(1.0, count + 1)[None, :, None, None, None]
  return jnp.broadcast_to(video, (1, count, 2, 2, 1))


def shown(*args, **kwargs):
  found = frames(*args, **kwargs)
  made = given.neighbours(numbered(found.index.shape[1]), found)
  assert made.shape == (1, found.index.shape[1], 2, 2, 4)
  assert float(jnp.ptp(made, axis=(2, 3)).max()) == 0
  return made[0, :, 0, 0].T  # before, how far, after, how far


def test_neighbours_are_the_given_frames_before_and_after():
  before, far, after, away = shown([0, 3, 10, 11], [1, 0, 0, 1])
  np.testing.assert_array_equal(before, [1, 1, 1, 4])
  np.testing.assert_allclose(far, np.log1p([0, 3, 10, 0]), rtol=1e-6)
  np.testing.assert_array_equal(after, [1, 4, 4, 4])
  np.testing.assert_allclose(away, np.log1p([0, 8, 1, 0]), rtol=1e-6)


def test_slots_in_any_order():
  before, _, after, _ = shown([11, 3, 0, 10], [1, 0, 1, 0])
  np.testing.assert_array_equal(before, [1, 3, 3, 3])
  np.testing.assert_array_equal(after, [1, 1, 3, 1])


def test_where_there_is_no_neighbour():
  before, far, after, away = shown([0, 1, 2], [0, 1, 0])
  np.testing.assert_array_equal(before, [-1, 2, 2])
  assert far[0] == -1 and away[2] == -1
  np.testing.assert_array_equal(after, [2, 2, -1])
  for none in shown([0, 1], [0, 0]):
    np.testing.assert_array_equal(none, [-1, -1])


def test_frames_of_another_video_are_no_neighbours():
  before, _, after, _ = shown([0, 1, 2], [1, 0, 0], group=[0, 0, 1])
  np.testing.assert_array_equal(before, [1, 1, -1])
  np.testing.assert_array_equal(after, [1, -1, -1])


@pytest.mark.parametrize("name", ["fdm_digits", "ramvid_digits"])
def test_a_network_that_is_shown_them_answers_by_them(name):
  system = small(name, patch=1, show_given=True)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)))
  batch = helpers.random_batch(system, 1)
  length = batch["video"].shape[1]
  video = jnp.asarray(batch["video"] / 127.5 - 1)
  level = system.schedule.sample(jnp.full(1, 0.5))
  of = frames(range(length), [1] + [0] * (length - 1))

  @jax.jit
  def answer(video):
    z = jnp.where(of.observed[..., None, None, None], video, 0.5)
    encoded = system.encode(params, video, of, batch["cond"])
    return system.network.apply(
      {"params": params}, z, level, of, encoded.context, None, method="denoise"
    )

  changed = video.at[:, 0].set(-video[:, 0])
  # With one level and without attention nothing else reaches the last frame in FDM.
  assert np.abs(answer(video) - answer(changed))[:, -1].max() > 1e-3


class TestPooled:
  module = given.Pooled(channels=4, features=6, patch=2)
  video = jax.random.normal(jax.random.key(0), (3, 5, 8, 8, 1))
  observed = jnp.asarray([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0] * 5], bool)

  def told(self, video, observed):
    params = self.module.init(jax.random.key(1), self.video, self.observed)
    return np.asarray(self.module.apply(params, video, observed))

  def test_is_of_given_frames_alone_in_any_order(self):
    whole = self.told(self.video, self.observed)
    assert whole.shape == (3, 6) and (whole[:2] != 0).all()
    np.testing.assert_array_equal(whole[2], 0)  # None is given.
    hidden = _off(self.video, self.observed)
    np.testing.assert_allclose(self.told(hidden, self.observed), whole, atol=1e-6)
    turned = self.told(self.video[:, ::-1], self.observed[:, ::-1])
    np.testing.assert_allclose(turned, whole, atol=1e-6)

  def test_does_not_grow_with_their_number(self):
    same = jnp.broadcast_to(self.video[:, :1], self.video.shape)
    one, all_ = jnp.asarray([[1, 0, 0, 0, 0]], bool), jnp.ones((1, 5), bool)
    found = [self.told(same[:1], observed) for observed in (one, all_)]
    np.testing.assert_allclose(*found, atol=1e-6)

  def test_says_little_of_where_a_thing_is(self):
    thing = jnp.zeros((1, 1, 32, 32, 1)).at[:, :, 12:16, 12:16].set(1.0)
    moved, other = jnp.roll(thing, (4, 4), (2, 3)), thing.at[:, :, 12:16, 12:14].set(0)
    given_, moved, other = (
      self.told(x, jnp.ones((1, 1), bool)) for x in (thing, moved, other)
    )
    # Shifted by whole strides, and far from the border: not at all.
    np.testing.assert_allclose(moved, given_, atol=1e-6)
    assert np.abs(other - given_).max() > 1e-4


def _off(video, observed):
  return jnp.where(observed[:, :, None, None, None], video, 7.0)


def test_a_network_that_is_told_answers_by_frames_at_any_distance():
  system = small("fdm_digits", show_given=False, pool_given=True)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)))
  batch = helpers.random_batch(system, 1)
  length = batch["video"].shape[1]
  video = jnp.asarray(batch["video"] / 127.5 - 1)
  of = frames([0, *range(90, 89 + length)], [1] + [0] * (length - 1))
  level = system.schedule.sample(jnp.full(1, 0.5))

  @jax.jit
  def answer(params, video):
    z = jnp.where(of.observed[..., None, None, None], video, 0.5)
    encoded = system.encode(params, video, of, batch["cond"])
    return system.network.apply(
      {"params": params}, z, level, of, encoded.context, None, method="denoise"
    )

  changed = video.at[:, 0].set(-video[:, 0])
  # Through the embedding, also where attention is silent.
  gap = np.abs(answer(params, video) - answer(params, changed))[:, -1].max()
  assert gap > 1e-3
