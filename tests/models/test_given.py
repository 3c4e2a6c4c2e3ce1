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
      {"params": params}, z, level, of, encoded.context, False, method="denoise"
    )

  changed = video.at[:, 0].set(-video[:, 0])
  # With one level and without attention nothing else reaches the last frame in FDM.
  assert np.abs(answer(video) - answer(changed))[:, -1].max() > 1e-3
