"""Attention among many tokens by the splash kernel that ships with JAX, for TPU.

It holds no scores: a block of queries meets one block of keys after the other.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_kernel as kernels,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
  splash_attention_mask as masks,
)

# Tokens in a block: as many as the kernel's memory holds (the compiler refused 1,024 of
# heads above 128 channels), and not so few that the grid costs more than its steps.
_LARGEST, _SMALLEST, _LANES = 1024, 256, 128


HEADS = "'splash' takes heads of up to 256 channels, a multiple of 8"


def takes_heads(head_dim: int) -> bool:
  """What `HEADS` says."""
  return head_dim % 8 == 0 and head_dim <= 256


def takes(tokens: int, head_dim: int) -> bool:
  """Whether the kernel takes so many tokens and such heads."""
  return tokens >= _SMALLEST and takes_heads(head_dim)


def block_of(tokens: int, head_dim: int) -> int:
  """Tokens in a block: those that pad least, and of these the most."""
  largest = _LARGEST if head_dim <= _LANES else _LARGEST // 2
  sizes = range(_SMALLEST, largest + 1, _LANES)
  return min(sizes, key=lambda size: (-(-tokens // size) * size, -size))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, interpret: bool = False):
  """Softmax attention without mask or position terms, of one device.

  Args:
    q, k, v: [N, L, heads, head_dim], for which `takes` holds.
    interpret: run as plain JAX, for tests.

  Returns:
    [N, L, heads, head_dim], of q's dtype.
  """
  _, length, heads, dim = q.shape
  block = block_of(length, dim)
  padding = -length % block

  def tokens_last(x):
    x = jnp.swapaxes(x, 1, 2)
    return jnp.pad(x, ((0, 0), (0, 0), (0, padding), (0, 0))) if padding else x

  segments = None
  if padding:
    real = (jnp.arange(length + padding) < length).astype(jnp.int32)
    segments = kernels.SegmentIds(real, real)
  kernel = _kernel(heads, length + padding, block, interpret)
  parts = tokens_last(q * dim**-0.5), tokens_last(k), tokens_last(v)
  out = jax.vmap(lambda q, k, v: kernel(q, k, v, segments))(*parts)
  return jnp.swapaxes(out[:, :, :length], 1, 2)


@functools.lru_cache
def _kernel(heads: int, length: int, block: int, interpret: bool):
  sizes = kernels.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_q_dq=block,
    block_kv_dq=block,
  )
  mask = masks.MultiHeadMask([masks.FullMask((length, length))] * heads)
  # Kept for the next layer, and so not a value of the program that is being traced.
  with jax.ensure_compile_time_eval():
    return kernels.make_splash_mha(
      mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret
    )
