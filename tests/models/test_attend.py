"""Attention among many tokens: pieces, kernels, and which of them a program takes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.extend.core import jaxprs_in_params

from vdm_jax import sharding
from vdm_jax.errors import UserError
from vdm_jax.models import attention
from vdm_jax.models.kernels import splash

KERNEL = {"tpu": "tpu_custom_call", "cuda": "__cudnn$fmha"}


def draw(*shape, dtype=jnp.float32, scale=1.0, seed=0):
  """Queries, keys and values; products of `scale` 3 have peaks, as trained ones do."""
  q, k, v = np.random.default_rng(seed).standard_normal((3, *shape)).astype(np.float32)
  root = scale**0.5
  return tuple(jnp.asarray(x, dtype) for x in (q * root, k * root, v))


def both(function, args, mesh=None):
  """What a function gives, and the derivatives of an uneven sum of it."""
  if mesh is not None:
    args = jax.device_put(args, sharding.batch(mesh))

  def total(*args):
    out = function(*args)
    return jnp.sum(jnp.sin(out.astype(jnp.float32))), out

  grad = jax.grad(total, argnums=(0, 1, 2), has_aux=True)
  grads, out = (sharding.jit(grad, mesh) if mesh is not None else jax.jit(grad))(*args)
  return [np.asarray(x, np.float32) for x in (out, *grads)]


def close(found, expected, tolerance):
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def attend(implementation):
  return functools.partial(attention.attend, implementation=implementation)


def arrays_in(jaxpr):
  for equation in jaxpr.eqns:
    yield from (v.aval for v in equation.outvars)
    for inner in jaxprs_in_params(equation.params):
      yield from arrays_in(inner)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("tokens", [48, 384, 500])
def test_pieces_equal_the_whole(tokens, known, monkeypatch):
  args = draw(8, tokens, 2, 8)
  expected = both(attend("xla"), args)
  # A third of a row's scores at most, or three rows at a time.
  size = max(3 * 2 * 4 * 48**2, 2 * 4 * tokens**2 // 3)
  monkeypatch.setattr(attention, "_SCORES", size)
  monkeypatch.setattr(attention, "_SCORES_OF_FEW", size)
  mesh = sharding.make_mesh(devices=jax.devices()[:2]) if known else None
  close(both(attend("chunked"), args, mesh), expected, 2e-5)


def test_a_piece_has_so_many_bytes_whatever_the_batch(monkeypatch):
  monkeypatch.setattr(attention, "_SCORES", 1 << 20)
  monkeypatch.setattr(attention, "_SCORES_OF_FEW", 1 << 20)
  for rows, tokens, heads in [(64, 256, 2), (4, 1024, 4), (1, 1200, 1)]:
    x = jax.ShapeDtypeStruct((rows, tokens, heads, 8), jnp.float32)
    grad = jax.grad(lambda x: attend("chunked")(x, x, x).sum())
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    text = jax.make_jaxpr(sharding.jit(grad, mesh))(x)
    # Scores are [..., queries, keys].
    scores = [a.shape for a in arrays_in(text.jaxpr) if a.shape[-1:] == (tokens,)]
    scores = [shape for shape in scores if len(shape) > 3 and shape[-2] > 8]
    assert scores and all(shape[-2] % 128 == 0 for shape in scores)
    # 128 queries of one row at least.
    least = 4 * 128 * tokens * heads
    assert max(map(math.prod, scores)) * 4 <= max(1 << 20, least)


@pytest.mark.parametrize(
  "tokens, block", [(256, 256), (1024, 1024), (4096, 1024), (5120, 1024), (1152, 384),
                    (1408, 768), (300, 384), (1025, 384)]
)  # fmt: skip
def test_blocks_pad_little(tokens, block):
  assert splash.block_of(tokens, 64) == block
  assert splash.block_of(tokens, 192) <= 512


@pytest.mark.parametrize("tokens, head_dim", [(256, 64), (300, 96), (1024, 8)])
def test_the_kernel_equals_the_plain_form(tokens, head_dim):
  """In interpret mode; peaks as trained networks have them."""
  kernel = functools.partial(splash.attend, interpret=True)
  args = draw(2, tokens, 2, head_dim, scale=3.0)
  expected = both(attend("xla"), args)
  close(both(kernel, args), expected, 1e-5)
  half = tuple(x.astype(jnp.bfloat16) for x in args)
  rounded = both(attend("xla"), tuple(x.astype(jnp.float32) for x in half))
  close(both(kernel, half), rounded, 0.02)


def lowered(function, args, platform, mesh=None):
  grad = jax.grad(lambda *a: function(*a).astype(jnp.float32).sum(), argnums=(0, 1, 2))
  if mesh is None:
    traced = jax.jit(grad).trace(*args)
  else:
    place = sharding.batch(mesh)
    traced = sharding.jit(grad, mesh, in_shardings=(place,) * 3).trace(*args)
  return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("devices", [1, 8])
def test_a_tpu_takes_the_kernel_for_many_tokens(devices):
  mesh = sharding.make_mesh(fsdp=min(devices, 2), devices=jax.devices()[:devices])
  x = (jax.ShapeDtypeStruct((8, 1024, 2, 64), jnp.bfloat16),) * 3
  few = (jax.ShapeDtypeStruct((8, 512, 2, 64), jnp.bfloat16),) * 3
  odd = (jax.ShapeDtypeStruct((8, 1024, 2, 20), jnp.bfloat16),) * 3
  text = lowered(attend("auto"), x, "tpu", mesh)
  # Values, and the derivatives of queries, and of keys and values.
  assert text.count(KERNEL["tpu"]) >= 3
  assert KERNEL["tpu"] not in lowered(attend("auto"), x, "cpu", mesh)
  assert KERNEL["tpu"] not in lowered(attend("chunked"), x, "tpu", mesh)
  assert KERNEL["tpu"] not in lowered(attend("auto"), few, "tpu", mesh)
  assert KERNEL["tpu"] in lowered(attend("splash"), few, "tpu", mesh)
  assert KERNEL["tpu"] not in lowered(attend("auto"), odd, "tpu", mesh)


def test_a_mesh_that_is_not_known_or_does_not_fit_takes_no_kernel():
  x = (jax.ShapeDtypeStruct((3, 1024, 2, 64), jnp.bfloat16),) * 3
  assert KERNEL["tpu"] not in lowered(attend("auto"), x, "tpu")
  mesh = sharding.make_mesh(devices=jax.devices()[:2])
  grad = sharding.jit(lambda *a: attention.attend(*a).sum(), mesh)
  text = grad.trace(*x).lower(lowering_platforms=("tpu",)).as_text()
  assert KERNEL["tpu"] not in text


@pytest.mark.parametrize(
  "head_dim, dtype, taken",
  [
    (64, jnp.bfloat16, True),
    (128, jnp.bfloat16, True),
    (192, jnp.bfloat16, False),
    (20, jnp.bfloat16, False),
    (64, jnp.float32, False),
  ],
)
def test_a_gpu_takes_cudnn_where_that_takes_the_heads(
  head_dim, dtype, taken, monkeypatch
):
  """On a host without a GPU: the platform that is lowered for decides."""
  monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
  attention._cudnn_takes.cache_clear()
  for rows, tokens in ((4, 256), (4, 2048)):
    x = (jax.ShapeDtypeStruct((rows, tokens, 2, head_dim), dtype),) * 3
    for mesh in (None, sharding.make_mesh(devices=jax.devices()[:4])):
      text = lowered(attend("auto"), x, "cuda", mesh)
      # What the compiler splits by itself becomes the call when it has done so.
      found = KERNEL["cuda"] in text or "CustomSPMDPartitioning" in text
      assert found == taken
      assert KERNEL["cuda"] not in lowered(attend("auto"), x, "cpu", mesh)
  if not taken:
    with pytest.raises(UserError, match=f"'cudnn' needs .* found heads of {head_dim}"):
      jax.eval_shape(attend("cudnn"), *x)
  attention._cudnn_takes.cache_clear()


def test_without_cudnn_nothing_fails(monkeypatch):
  def missing():
    raise RuntimeError("cuDNN is not detected.")

  monkeypatch.setattr(cudnn, "check_cudnn_version", missing)
  attention._cudnn_takes.cache_clear()
  x = (jax.ShapeDtypeStruct((4, 256, 2, 64), jnp.bfloat16),) * 3
  assert KERNEL["cuda"] not in lowered(attend("auto"), x, "cuda")
  attention._cudnn_takes.cache_clear()


def test_impossible_heads_are_named():
  x = jax.ShapeDtypeStruct((4, 256, 2, 20), jnp.bfloat16)
  with pytest.raises(UserError, match="'splash' takes heads .* found heads of 20"):
    jax.eval_shape(attend("splash"), x, x, x)
