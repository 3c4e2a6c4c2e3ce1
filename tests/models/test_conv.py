"""Convolution: equal to XLA's on every device, and nothing else but XLA's on TPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vdm_jax.models import conv

GRADIENTS = (conv.rows_gradient, conv.matmul_gradient)


def reference(x, kernel, strides, padding):
  return lax.conv_general_dilated(
    x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def draw(*shape, seed=0, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def force(monkeypatch, gradient):
  """Takes the gradient under test for every shape."""
  monkeypatch.setattr(conv, "cpu_gradient", lambda *shapes: gradient)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize(
  "shape, kernel, strides, padding",
  [
    ((2, 8, 6, 3), (3, 3), (1, 1), "SAME"),
    ((2, 8, 6, 3), (3, 3), (1, 1), "VALID"),
    ((2, 8, 6, 3), (3, 3), (1, 1), ((0, 3), (2, 1))),
    ((2, 8, 6, 3), (3, 3), (1, 1), ((4, 5), (5, 4))),
    ((3, 5, 7, 2), (1, 1), (1, 1), "SAME"),
    ((3, 5, 7, 2), (1, 3), (1, 1), "SAME"),
    ((3, 5, 7, 2), (4, 2), (1, 1), "SAME"),
    ((2, 4, 4, 3), (7, 7), (1, 1), ((3, 3), (3, 3))),
    ((2, 1, 1, 3), (3, 3), (1, 1), ((1, 1), (1, 1))),
    ((2, 8, 6, 3), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((2, 7, 5, 3), (3, 3), (2, 2), "SAME"),
    ((2, 8, 6, 3), (4, 4), (2, 2), ((2, 1), (2, 1))),
    ((2, 8, 6, 3), (4, 4), (2, 2), ((1, 1), (1, 1))),
    ((2, 8, 6, 3), (1, 1), (2, 1), "VALID"),
    ((2, 9, 9, 3), (2, 2), (3, 3), "VALID"),
  ],
)
def test_equals_xla(monkeypatch, gradient, shape, kernel, strides, padding):
  if gradient is conv.matmul_gradient and strides != (1, 1):
    pytest.skip("for strides of one")
  force(monkeypatch, gradient)
  # Several blocks of rows even here.
  monkeypatch.setattr(conv, "_ROWS_BYTES", 256)
  x, k = draw(*shape), draw(*kernel, shape[-1], 5, seed=1)
  y, back = jax.vjp(
    lambda x, k: conv.conv2d(x, k, strides=strides, padding=padding), x, k
  )
  want, want_back = jax.vjp(lambda x, k: reference(x, k, strides, padding), x, k)
  np.testing.assert_array_equal(y, want)
  dy = draw(*y.shape, seed=2)
  for found, expected in zip(back(dy), want_back(dy), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_bfloat16_sums_in_float32(monkeypatch, gradient):
  force(monkeypatch, gradient)
  monkeypatch.setattr(conv, "_ROWS_BYTES", 4096)
  # Ones: a bfloat16 sum would stop growing at 256.
  x = jnp.ones((4, 32, 32, 64), jnp.bfloat16)
  k = jnp.ones((3, 3, 64, 8), jnp.bfloat16)
  y, back = jax.vjp(lambda x, k: conv.conv2d(x, k, padding="SAME"), x, k)
  dx, dk = back(jnp.ones_like(y))
  assert y.dtype == dx.dtype == dk.dtype == jnp.bfloat16
  assert y[0, 5, 5, 0] == 576
  assert dx[0, 5, 5, 0] == 72
  assert dk[1, 1, 0, 0] == 4096


def test_rule_by_shape():
  def rule(n, size, width, kernel=3, stride=1):
    x = (n, size, size, width)
    dy = (n, size // stride, size // stride, width)
    return conv.cpu_gradient(x, (kernel, kernel, width, width), dy, (stride, stride))

  assert rule(128, 16, 32) is conv.rows_gradient
  assert rule(128, 4, 128) is conv.plain_gradient
  assert rule(10, 16, 256) is conv.plain_gradient
  assert rule(160, 32, 64) is conv.matmul_gradient
  assert rule(160, 64, 64, 4, 2) is conv.rows_gradient


# Shapes for which the rule takes each of the three.
SHAPES = [(16, 4, 8), (18, 32, 32), (32, 64, 40)]


@pytest.mark.parametrize("n, size, width", SHAPES)
def test_gradient_under_remat_and_scan(n, size, width):
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
      k = self.param("k", nn.initializers.lecun_normal(), (3, 3, width, width))
      return x + jnp.tanh(conv.conv2d(x, k, padding="SAME")), None

  stack = nn.scan(
    nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=2
  )()
  x = draw(n, size, size, width)
  params = stack.init(jax.random.key(0), x, None)

  def loss(params, x):
    return (stack.apply(params, x, None)[0] ** 2).mean()

  def expected(params, x):
    for k in params["params"]["k"]:
      x = x + jnp.tanh(reference(x, k, (1, 1), "SAME"))
    return (x**2).mean()

  found = jax.jit(jax.grad(loss, (0, 1)))(params, x)
  want = jax.jit(jax.grad(expected, (0, 1)))(params, x)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def gradients(x, k, dy):
  _, back = jax.vjp(lambda x, k: conv.conv2d(x, k, padding="SAME"), x, k)
  return back(dy)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("n, size, width", SHAPES)
def test_other_platforms_get_plain_convolutions(platform, n, size, width):
  x, k = draw(n, size, size, width), draw(3, 3, width, width)

  def standard(x, k, dy):
    return jax.vjp(lambda x, k: reference(x, k, (1, 1), "SAME"), x, k)[1](dy)

  def operations(f):
    """What is computed; the choice of a platform is a constant that XLA folds."""
    text = jax.jit(f).trace(x, k, x).lower(lowering_platforms=(platform,)).as_text()
    found = re.findall(r"stablehlo\.(\w+)", text)
    return set(found) - {"case", "return", "constant"}, found.count("convolution")

  found = operations(gradients)
  assert found == operations(standard)
  assert found[1] == 2


@pytest.mark.parametrize("n, size, width", SHAPES)
def test_sharded_batch_stays_in_place(n, size, width):
  mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
  split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
  x, k = draw(n, size, size, width), draw(3, 3, width, width) * 0.1
  dy = draw(n, size, size, width, seed=2)
  want_dx, want_dk = jax.jit(gradients)(x, k, dy)
  args = (jax.device_put(x, split), jax.device_put(k, whole), jax.device_put(dy, split))
  program = jax.jit(gradients, out_shardings=(split, whole)).lower(*args).compile()
  text = program.as_text()
  for word in ("all-gather", "all-to-all", "collective-permute", "conditional"):
    assert word not in text
  assert text.count(" all-reduce(") == 1
  dx, dk = program(*args)
  np.testing.assert_allclose(dx, want_dx, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(dk, want_dk, rtol=1e-3, atol=1e-3 * np.abs(want_dk).max())


def test_vmap_over_kernels():
  x, k = draw(2, 6, 6, 3), draw(4, 3, 3, 3, 5, seed=1)
  y = jax.vmap(lambda k: conv.conv2d(x, k, padding="SAME"))(k)
  np.testing.assert_allclose(
    y[2], reference(x, k[2], (1, 1), "SAME"), rtol=1e-5, atol=1e-5
  )
