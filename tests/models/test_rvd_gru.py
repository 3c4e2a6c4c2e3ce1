"""The recurrence's own gradient is that of the recursion written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vdm_jax import sharding
from vdm_jax.models import rvd_gru

BATCH, LENGTH, SIZE, INPUTS, FEATURES = 2, 4, 5, 3, 6


def draw(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def recursion(params, x, h):
  """Frame after frame, frame and state in one convolution; by autodiff."""

  def convolve(a, name):
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
      a, params[f"{name}_kernel"], (1, 1), "SAME", dimension_numbers=layout
    )
    return y + params[f"{name}_bias"]

  states = []
  for t in range(LENGTH):
    gate = nn.sigmoid(convolve(jnp.concatenate([x[:, t], h], -1), "gates"))
    reset, update = gate[..., :FEATURES], gate[..., FEATURES:]
    seen = jnp.concatenate([x[:, t], reset * h], -1)
    h = (1 - update) * h + update * jnp.tanh(convolve(seen, "candidate"))
    states.append(h)
  return jnp.stack(states, axis=1)


def case():
  x, h = draw(BATCH, LENGTH, SIZE, SIZE, INPUTS), draw(BATCH, SIZE, SIZE, FEATURES)
  gru = rvd_gru.ConvGru(FEATURES)
  shapes = jax.eval_shape(gru.init, jax.random.key(0), x, h)["params"]
  params = {
    name: 0.4 * draw(*leaf.shape, seed=seed)
    for seed, (name, leaf) in enumerate(sorted(shapes.items()), start=1)
  }
  return gru, params, x, h


def test_states_and_gradients_are_those_of_the_recursion():
  gru, params, x, h = case()
  weight = draw(BATCH, LENGTH, SIZE, SIZE, FEATURES, seed=9)

  def both(states):
    def loss(*args):
      found = states(*args)
      return jnp.sum(weight * found), found

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))

  ours = both(lambda params, x, h: gru.apply({"params": params}, x, h))(params, x, h)
  plain = both(recursion)(params, x, h)
  for a, b in zip(*map(jax.tree.leaves, (ours, plain)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("cut", [1, 3])
def test_a_sequence_may_be_cut_anywhere(cut):
  gru, params, x, h = case()

  def apply(x, h):
    return gru.apply({"params": params}, x, h)

  whole = apply(x, h)
  before = apply(x[:, :cut], h)
  after = apply(x[:, cut:], before[:, -1])
  np.testing.assert_allclose(np.concatenate([before, after], 1), whole, atol=1e-6)


def test_devices_that_share_a_batch_exchange_gradients_of_kernels_alone():
  """No device sees the activations of another's videos."""
  gru, params, _, _ = case()
  mesh = sharding.make_mesh()
  videos = 2 * mesh.size
  x, h = draw(videos, LENGTH, SIZE, SIZE, INPUTS), draw(videos, SIZE, SIZE, FEATURES)

  def loss(params, x, h):
    return jnp.sum(jnp.square(gru.apply({"params": params}, x, h)))

  rows, whole = sharding.batch(mesh), sharding.replicated(mesh)
  gradient = jax.jit(
    jax.grad(loss), in_shardings=(whole, rows, rows), out_shardings=whole
  )
  text = gradient.lower(params, x, h).compile().as_text()
  assert "all-reduce" in text
  for exchange in ("all-gather", "all-to-all", "collective-permute"):
    assert exchange not in text
