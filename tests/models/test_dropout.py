"""Dropout with a key per example."""

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax.models import layers


class Two(layers.nn.Module):
  """Two layers that drop."""

  @layers.nn.compact
  def __call__(self, x, keys):
    first = layers.Dropout(0.25, name="first")(x, keys)
    return first, layers.Dropout(0.25, name="second")(x, keys)


def drop(x, keys):
  return Two().apply({}, x, keys)


def test_the_share_is_dropped_and_the_mean_stays():
  x = jnp.ones((64, 50, 40))
  out, _ = drop(x, jax.random.split(jax.random.key(0), 64))
  share = np.mean(np.asarray(out) == 0)
  # Four standard errors of so many coins.
  assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / x.size)
  np.testing.assert_allclose(np.unique(out), [0, 1 / 0.75], rtol=1e-6)
  assert drop(x, None)[0] is x


def test_layers_and_examples_draw_apart_and_a_batch_changes_nothing():
  x, keys = jnp.ones((8, 200)), jax.random.split(jax.random.key(1), 8)
  first, second = drop(x, keys)

  def agree(a, b):
    return np.mean((np.asarray(a) == 0) == (np.asarray(b) == 0))

  # Two independent draws agree in 0.25^2 + 0.75^2 of the places.
  assert abs(agree(first, second) - 0.625) < 0.06
  assert abs(agree(first[:4], first[4:]) - 0.625) < 0.08
  np.testing.assert_array_equal(drop(x[3:5], keys[3:5])[0], first[3:5])
