"""Attention among many tokens by the TPU splash kernel that ships with JAX.

No scores are stored: a block of queries meets one block of keys after the other.
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

# Tokens per block: at most what fits the kernel's memory (the compiler refused 1,024
# for heads above 128 channels), and enough that a step outweighs the grid's overhead.
_LARGEST, _SMALLEST, _LANES = 1024, 256, 128


HEADS = "'splash' takes heads of up to 256 channels, a multiple of 8"


def takes_heads(head_dim: int) -> bool:
  """Returns whether the kernel takes heads of this width; see `HEADS`."""
  return head_dim % 8 == 0 and head_dim <= 256


def takes(tokens: int, head_dim: int) -> bool:
  """Returns whether the kernel takes this many tokens and heads of this width."""
  return tokens >= _SMALLEST and takes_heads(head_dim)


def block_of(tokens: int, head_dim: int) -> int:
  """Chooses the tokens per block: the largest block among those that pad least."""
  largest = _LARGEST if head_dim <= _LANES else _LARGEST // 2
  sizes = range(_SMALLEST, largest + 1, _LANES)
  return min(sizes, key=lambda size: (-(-tokens // size) * size, -size))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, *, interpret: bool = False):
  """Computes softmax attention without mask or position terms, on one device.

  Args:
    q, k, v: queries, keys, values, [N, L, heads, head_dim], for which `takes` is true.
    interpret: whether to run as plain JAX, for tests.

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
  # Cached for other layers, so it must not be a value of the program being traced.
  with jax.ensure_compile_time_eval():
    return kernels.make_splash_mha(
      mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret
    )
