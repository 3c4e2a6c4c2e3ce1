"""3-D convolution: equal to XLA's on CPU, and XLA's own elsewhere."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vdm_jax.models import conv3d


def reference(x, kernel, strides):
  """What torch's Conv3d with padding k // 2 computes, for odd k."""
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    [(k // 2, k // 2) for k in kernel.shape[:3]],
    dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
  )


def draw(*shape, seed=0, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize(
  "shape, kernel, strides",
  [
    ((2, 4, 6, 8, 3), (3, 3, 3), (1, 1, 1)),
    ((2, 5, 6, 8, 3), (3, 3, 3), (1, 2, 2)),
    ((1, 5, 7, 6, 2), (3, 3, 3), (2, 2, 2)),
    ((1, 4, 6, 6, 2), (3, 3, 3), (2, 2, 2)),
    ((2, 1, 4, 4, 2), (3, 3, 3), (1, 1, 1)),
    ((2, 3, 4, 4, 2), (1, 1, 1), (1, 1, 1)),
    ((1, 6, 5, 5, 2), (5, 3, 1), (3, 1, 2)),
  ],
)
def test_equals_xla_with_gradients(shape, kernel, strides):
  x, k = draw(*shape), draw(*kernel, shape[-1], 5, seed=1)
  y, back = jax.vjp(lambda x, k: conv3d.conv3d(x, k, strides=strides), x, k)
  want, want_back = jax.vjp(lambda x, k: reference(x, k, strides), x, k)
  assert y.shape == want.shape
  np.testing.assert_allclose(y, want, rtol=1e-5, atol=2e-5)
  dy = draw(*y.shape, seed=2)
  for found, expected in zip(back(dy), want_back(dy), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-5)


def test_bfloat16_stays():
  x, k = draw(1, 2, 4, 4, 8, dtype=jnp.bfloat16), draw(3, 3, 3, 8, 8).astype("bfloat16")
  y, back = jax.vjp(lambda x, k: conv3d.conv3d(x, k, strides=(1, 1, 1)), x, k)
  assert {a.dtype for a in (y, *back(y))} == {jnp.dtype("bfloat16")}
  want = reference(x.astype("float32"), k.astype("float32"), (1, 1, 1))
  np.testing.assert_allclose(y.astype("float32"), want, atol=0.02 * jnp.abs(want).max())


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_get_plain_convolutions(platform):
  x, k = draw(2, 4, 8, 8, 4), draw(3, 3, 3, 4, 4)

  def ours(x, k, dy):
    _, back = jax.vjp(lambda x, k: conv3d.conv3d(x, k, strides=(1, 1, 1)), x, k)
    return back(dy)

  def plain(x, k, dy):
    return jax.vjp(lambda x, k: reference(x, k, (1, 1, 1)), x, k)[1](dy)

  def operations(f):
    """What is computed; the choice of a platform is a constant that XLA folds."""
    text = jax.jit(f).trace(x, k, x).lower(lowering_platforms=(platform,)).as_text()
    found = re.findall(r"stablehlo\.(\w+)", text)
    return set(found) - {"case", "return", "constant"}, found.count("convolution")

  found = operations(ours)
  assert found == operations(plain)
  assert found[1] == 2
