"""Patches of pixels as channels, and the networks that work on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.errors import UserError
from vdm_jax.models import layers


def test_patches_hold_their_pixels_and_come_back():
  x = jnp.arange(2 * 3 * 8 * 4 * 2.0).reshape(2, 3, 8, 4, 2)
  patches = layers.to_patches(x, 2)
  assert patches.shape == (2, 3, 4, 2, 8)
  np.testing.assert_array_equal(patches[1, 2, 3, 1].reshape(2, 2, 2), x[1, 2, 6:8, 2:4])
  np.testing.assert_array_equal(layers.from_patches(patches, 2), x)
  assert layers.to_patches(x, 1) is x and layers.from_patches(x, 1) is x


def small(name, **model):
  config = helpers.load_config(name)
  config["data"]["frame_shape"] = (8, 8, 1)
  config["model"] |= {
    "channels": 32, "channel_mults": (1,), "attention_resolutions": (), **model
  }  # fmt: skip
  if config["task"]["name"] == "plan_stages":
    config["task"] |= {"length": 20, "num_obs": 2, "max_frames": 4}
    config["task"]["options"] = {"step_size": 2}
  return systems.build(config)


@pytest.mark.parametrize("name", ["fdm_digits", "ramvid_digits", "vdm_digits"])
def test_a_network_on_patches_predicts_every_pixel(name):
  system = small(name, patch=2)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)))
  batch = helpers.random_batch(system, 2)
  batch = {**batch, "example": jnp.arange(2), "stratum": jnp.arange(2) / 2}
  loss = jax.jit(lambda p: system.loss(p, batch, jax.random.key(1), False)[0])
  gradient = jax.jit(jax.grad(loss))(params)
  assert np.isfinite(loss(params))
  # Every pixel of a patch has a weight of its own in the last layer.
  head = gradient["backbone"]["head"]["kernel"]
  assert head.shape[-1] == 4
  assert (np.abs(head).reshape(-1, 4).max(0) > 0).all()


@pytest.mark.parametrize("name", ["fdm_digits", "ramvid_digits", "vdm_digits"])
def test_patches_that_do_not_fit_are_named(name):
  with pytest.raises(UserError, match="config.model.patch: 3 does not divide"):
    small(name, patch=3)
