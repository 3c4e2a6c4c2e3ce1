"""Attention over time: its kernel against the plain form, its precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax import frames as frames_lib
from vdm_jax import sharding
from vdm_jax.errors import UserError
from vdm_jax.models import attention, layers
from vdm_jax.models.kernels import over_time


def inputs(frames, pixels, channels, head_dim, dtype=jnp.float32, batch=2, scale=3.0):
  """Logits of standard deviation `scale`, relative terms and a mask of two groups."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)

  qkv = normal(batch, frames, pixels, 3, channels)
  qkv[..., :2, :] *= (scale / 2) ** 0.5
  qkv = qkv.reshape(batch, frames, pixels, 3 * channels)
  pair = batch, frames, frames, head_dim
  group = np.arange(frames) >= (2 * frames) // 3
  attends = np.broadcast_to(group[:, None] == group, pair[:3])
  rel_k, rel_v = normal(*pair) * (scale / 2) ** 0.5, normal(*pair)
  return *(jnp.asarray(x, dtype) for x in (qkv, rel_k, rel_v)), jnp.asarray(attends)


def both(function, args, head_dim):
  """What a function gives, and its derivatives."""
  weight = np.random.default_rng(1).standard_normal(args[0].shape[-1] // 3)

  def total(*some):
    out = function(*some, args[3], head_dim=head_dim)
    return jnp.sum(jnp.sin(out.astype(jnp.float32)) * weight), out

  grads, out = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*args[:3])
  return [np.asarray(x, np.float32) for x in (out, *grads)]


plain = attention.attend_over_time
kernel = functools.partial(over_time.attend, interpret=True)
# Frames, pixels, channels, head width.
SHAPES = [(3, 16, 128, 64), (5, 20, 256, 128), (4, 64, 384, 96), (2, 1, 1024, 64)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_equals_the_plain_form(shape):
  args = inputs(*shape)
  expected = both(plain, args, shape[-1])
  for a, b in zip(both(kernel, args, shape[-1]), expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("shape", SHAPES[::2])
def test_in_half_precision_it_is_no_worse_than_the_plain_form(shape):
  args = inputs(*shape, dtype=jnp.bfloat16)
  full = *(x.astype(jnp.float32) for x in args[:3]), args[3]
  expected = both(plain, full, shape[-1])
  for a, b, exact in zip(
    both(kernel, args, shape[-1]), both(plain, args, shape[-1]), expected, strict=True
  ):
    size = np.std(exact)
    ours, theirs = (np.sqrt(np.mean((x - exact) ** 2)) / size for x in (a, b))
    assert 0 < ours < max(1.1 * theirs, 4e-3)


def test_blocks_fit_and_others_are_refused():
  for backward in (False, True):
    found = over_time.blocks(24, 1024, 512, 64, jnp.bfloat16, backward)
    assert found.pixels % 16 == 0 and found.channels % 128 == 0
  assert over_time.takes(16, 64, 2048, 64, jnp.bfloat16)
  assert not over_time.takes(16, 64, 96, 64, jnp.bfloat16)
  assert not over_time.takes(300, 64, 512, 64, jnp.bfloat16)
  with pytest.raises(UserError, match="time_attention: .* 2 frames of 96 channels"):
    plain(*inputs(2, 16, 96, 32), 32, "pallas")
  with pytest.raises(UserError, match="time_attention: expected one of"):
    plain(*inputs(2, 16, 96, 32), 32, "palas")


@pytest.mark.parametrize("devices", [1, 4])
def test_a_tpu_takes_the_kernel_and_other_devices_the_plain_form(devices):
  mesh = sharding.make_mesh(devices=jax.devices()[:devices])
  layer = attention.TimeAttention(64, layers.PER_FRAME, implementation="pallas")
  frames = frames_lib.clip(4, 3)
  x = np.random.default_rng(0).standard_normal((4, 3, 4, 4, 128)).astype(np.float32)
  params = layer.init(jax.random.key(0), x, frames)
  params = jax.tree.map(lambda a: a + 0.1, params)
  same = layer.clone(implementation="xla")

  def total(layer):
    return lambda params, x: jnp.sum(jnp.sin(layer.apply(params, x, frames)))

  whole, batch = sharding.replicated(mesh), sharding.batch(mesh)
  grad = jax.value_and_grad(total(layer))
  step = sharding.jit(grad, mesh, in_shardings=(whole, batch))
  text = step.trace(params, x).lower(lowering_platforms=("tpu",)).as_text()
  assert text.count("tpu_custom_call") >= 2
  found, expected = step(params, x), jax.jit(jax.value_and_grad(total(same)))(params, x)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


def test_scores_in_half_precision_networks_are_not_rounded():
  """Logits as large as those of peaks: rounding them to 8 bits would show."""
  args = inputs(8, 16, 128, 64, dtype=jnp.bfloat16, scale=32.0)
  full = *(x.astype(jnp.float32) for x in args[:3]), args[3]
  exact = np.asarray(plain(*full, 64))

  def error(found):
    return np.sqrt(np.mean((np.asarray(found, np.float32) - exact) ** 2)) / exact.std()

  def rounded(terms, q, k):
    return scores_of(terms, q, k).astype(jnp.bfloat16).astype(jnp.float32)

  scores_of = attention.scores_of
  found = error(plain(*args, 64))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attention, "scores_of", rounded)
    worse = error(plain(*args, 64))
  assert found < 3e-3 < worse


@pytest.mark.parametrize("kind", ["time", "space"])
def test_a_layer_in_half_precision_is_near_one_in_float32(kind):
  """With logits of standard deviation 8, where few frames or pixels get the weight."""
  frames, shape = frames_lib.clip(2, 8), (2, 8, 4, 4, 128)
  x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.bfloat16)
  if kind == "time":
    layer, more = attention.TimeAttention(64, layers.PER_FRAME), (frames,)
  else:
    layer, more = attention.SpaceAttention(64, layers.PER_FRAME), ()
  params = layer.init(jax.random.key(0), x, *more)["params"]
  kernel = params["qkv"]["kernel"]
  # Queries and keys of a fresh layer have standard deviation 1, logits too.
  params["qkv"]["kernel"] = kernel.at[:, :256].multiply(8**0.5)
  params["out"]["kernel"] = jax.random.normal(jax.random.key(1), (128, 128)) * 128**-0.5

  def change(dtype):
    out = layer.clone(dtype=dtype).apply({"params": params}, x.astype(dtype), *more)
    return np.asarray(out, np.float32) - np.asarray(x, np.float32)

  exact = change(jnp.float32)
  error = np.sqrt(np.mean((change(jnp.bfloat16) - exact) ** 2)) / exact.std()
  assert 1e-4 < error < 0.03
