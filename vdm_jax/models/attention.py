"""Attention over space and over time.

`attend` is the one place that decides how scores are computed. With many tokens the
whole score matrix is never held: a TPU has the splash kernel, a GPU that of cuDNN for
half precision; elsewhere the scores are made piece by piece.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Bool, Float, Float32

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import layers
from vdm_jax.models.kernels import over_time, rows, splash

IMPLEMENTATIONS = ("auto", "xla", "chunked", "splash", "cudnn")
OVER_TIME = ("xla", "pallas")
# Fewer tokens are faster without the kernel, as they hardly fill its blocks.
_MANY_TOKENS = 1024
# Bytes of scores held at a time: what an accelerator keeps close to its compute units.
_SCORES = 32 << 20
# Few tokens may take more: the compiler estimates that pieces take a tenth more time.
_SCORES_OF_FEW = 256 << 20
_QUERIES = 128  # Pieces of other than multiples of this leave lanes empty.


def attend(
  q: Float[ArrayLike, "n l heads head_dim"],
  k: Float[ArrayLike, "n m heads head_dim"],
  v: Float[ArrayLike, "n m heads head_dim"],
  *,
  implementation: str = "auto",
) -> Float[Array, "n l heads head_dim"]:
  """Computes softmax attention without mask or position terms.

  Args:
    q, k, v: queries, keys and values.
    implementation: 'xla' holds all scores, 'chunked' some at a time. 'splash' holds
      none on a TPU if the program declares its mesh (`kernels.rows`), and is 'chunked'
      elsewhere. 'cudnn' holds none (GPU, half precision). 'auto' is 'splash' for 1,024
      tokens and more, and 'cudnn' on a GPU if it supports the heads.

  Returns:
    The attended values, of q's dtype; the softmax is in float32.

  Raises:
    UserError: there is no such implementation, or it does not support these heads.
  """
  if implementation not in IMPLEMENTATIONS:
    raise UserError(
      f"config.model.attention: expected one of {IMPLEMENTATIONS}, "
      f"found {implementation!r}"
    )
  _, tokens, _, head_dim = q.shape
  by_cudnn = implementation in ("auto", "cudnn") and _cudnn_takes(q.shape, q.dtype)
  by_splash = implementation == "splash" or (
    implementation == "auto" and tokens >= _MANY_TOKENS
  )
  if implementation == "xla":
    return _whole(q, k, v)
  if implementation == "cudnn":
    if not by_cudnn:
      raise UserError(
        "config.model.attention: 'cudnn' needs cuDNN, half precision and heads of up "
        f"to 128 channels, a multiple of 8; found heads of {head_dim} in {q.dtype}"
      )
    return _cudnn(q, k, v)
  if implementation == "splash" and not splash.takes_heads(head_dim):
    raise UserError(
      f"config.model.attention: {splash.HEADS}, found heads of {head_dim}"
    )

  share = rows.of_device(len(q))
  known = share is not None
  branches = {"cuda": _cudnn} if by_cudnn else {}
  if by_splash and known and splash.takes(tokens, head_dim):
    branches["tpu"] = splash.attend
  most = _SCORES if tokens >= _MANY_TOKENS else _SCORES_OF_FEW
  whole = _bytes(q, k, share if known else len(q)) <= most
  plain = _whole if whole else functools.partial(_in_pieces, by_rows=known)

  def of_device(q, k, v):
    if not branches:
      return plain(q, k, v)
    # The device is known only at lowering: a GPU machine may compile for a TPU.
    return jax.lax.platform_dependent(q, k, v, **branches, default=plain)

  # Plain attention over whole score matrices is split by the compiler itself.
  if known and ("tpu" in branches or not whole):
    return rows.map_devices(of_device, q, k, v)
  return of_device(q, k, v)


def _whole(q, k, v):
  return jax.nn.dot_product_attention(q, k, v, implementation="xla")


def _cudnn(q, k, v):
  return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


@functools.lru_cache
def _cudnn_takes(shape: tuple[int, ...], dtype) -> bool:
  """Returns whether cuDNN has kernels for both passes, found by tracing them."""
  if dtype not in (jnp.bfloat16, jnp.float16):
    return False
  x = jax.ShapeDtypeStruct(shape, dtype)
  try:
    jax.eval_shape(lambda q, k, v: jax.vjp(_cudnn, q, k, v)[1](q), x, x, x)
  except (NotImplementedError, RuntimeError, ValueError):
    return False
  return True


def _bytes(q, k, count: int) -> int:
  """Computes the bytes that the scores of `count` rows take."""
  return 4 * count * q.shape[2] * q.shape[1] * k.shape[1]


def _in_pieces(q, k, v, by_rows: bool):
  """Computes `_whole` for some rows at a time, or for some queries of a row.

  Rows that the compiler may have split over devices (not `by_rows`) stay together.
  """
  count, each = len(q), _bytes(q, k, 1)
  if not by_rows:
    return _by_queries(q, k, v)
  # The backward pass recomputes scores: storing them would defeat the purpose.
  fit = max(1, _SCORES // each)
  group = next(n for n in range(fit, 0, -1) if count % n == 0)
  piece = jax.checkpoint(_whole) if each <= _SCORES else _by_queries
  parts = [x.reshape(count // group, group, *x.shape[1:]) for x in (q, k, v)]
  return jax.lax.map(lambda part: piece(*part), parts).reshape(q.shape)


def _by_queries(q, k, v):
  """Computes `_whole` for some queries of every row at a time."""
  count, length, heads, dim = q.shape
  fit = _SCORES // (_bytes(q, k, count) // length)
  size = max(fit // _QUERIES, 1) * _QUERIES
  chunks = -(-length // size)
  size = (
    -(-length // (chunks * _QUERIES)) * _QUERIES
  )  # Chunks of equal size, so that little is padded.
  padded = jnp.pad(q, ((0, 0), (0, chunks * size - length), (0, 0), (0, 0)))
  parts = padded.reshape(count, chunks, size, heads, dim).swapaxes(0, 1)
  out = jax.lax.map(jax.checkpoint(lambda part: _whole(part, k, v)), parts)
  return out.swapaxes(0, 1).reshape(padded.shape)[:, :length]


def heads_of(channels: int, head_dim: int) -> int:
  """Returns the number of heads; UserError unless head_dim divides the channels."""
  if channels % head_dim:
    raise UserError(
      f"config.model.head_dim: {head_dim} does not divide the {channels} channels "
      "of an attention level"
    )
  return channels // head_dim


def scores_of(
  terms: str, q: Float[ArrayLike, "..."], k: Float[ArrayLike, "..."]
) -> Float32[Array, "..."]:
  """Contracts queries with keys in float32, as a softmax is sensitive to rounding."""
  return jnp.einsum(terms, q, k, preferred_element_type=jnp.float32)


def attend_over_time(
  qkv: Float[ArrayLike, "b t p width"],
  rel_k: Float[ArrayLike, "b t t {head_dim}"],
  rel_v: Float[ArrayLike, "b t t {head_dim}"],
  attends: Bool[ArrayLike, "b t t"],
  head_dim: int,
  implementation: str = "xla",
) -> Float[Array, "b t p c"]:
  """Computes attention among the frames at each pixel, with relative positions.

  Args:
    qkv: queries, keys and values of each of P pixels, 3 C wide; C holds heads.
    rel_k, rel_v: added to key and value of frame j (second) when
      frame i (first) attends to it.
    attends: whether frame i may attend to frame j.
    head_dim: width of a head.
    implementation: 'xla', or 'pallas': one kernel that writes no scores, on a TPU if
      the program declares its mesh (`kernels.rows`); 'xla' elsewhere.

  Returns:
    [B, T, P, C], of qkv's dtype; the softmax is in float32.

  Raises:
    UserError: there is no such implementation, or it does not support this video.
  """
  if implementation not in OVER_TIME:
    raise UserError(
      f"config.model.time_attention: expected one of {OVER_TIME}, "
      f"found {implementation!r}"
    )
  _, t, pixels, width = qkv.shape
  plain = functools.partial(_whole_over_time, head_dim=head_dim)
  args = qkv, rel_k, rel_v, attends
  if implementation == "xla":
    return plain(*args)
  if not over_time.takes(t, pixels, width // 3, head_dim, qkv.dtype):
    raise UserError(
      "config.model.time_attention: 'pallas' needs heads that fill lanes of 128 "
      f"channels, and few frames; found {t} frames of {width // 3} channels, heads of "
      f"{head_dim}"
    )
  if rows.of_device(len(qkv)) is None:
    return plain(*args)
  kernel = functools.partial(over_time.attend, head_dim=head_dim)

  def of_device(*args):
    return jax.lax.platform_dependent(*args, tpu=kernel, default=plain)

  return rows.map_devices(of_device, *args)


def _whole_over_time(qkv, rel_k, rel_v, attends, head_dim):
  *lead, width = qkv.shape
  qkv = qkv.reshape(*lead, 3, -1, head_dim)
  q, k, v = qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :]
  q = q * head_dim**-0.5
  scores = scores_of("bipnd,bjpnd->bpnij", q, k)
  scores = scores + scores_of("bipnd,bijd->bpnij", q, rel_k)
  scores = jnp.where(attends[:, None, None], scores, -jnp.inf)
  weight = jax.nn.softmax(scores, axis=-1).astype(qkv.dtype)
  h = jnp.einsum("bpnij,bjpnd->bipnd", weight, v)
  h = h + jnp.einsum("bpnij,bijd->bipnd", weight, rel_v)
  return h.reshape(*lead, width // 3)


class SpaceAttention(nn.Module):
  """Self-attention among the pixels of each frame, or of all frames together.

  Attributes:
    head_dim: width of a head.
    norm_axes: axes over which the group norm takes its statistics.
    implementation: see `attend`.
    dtype: dtype of the computation.
    groups: channel groups of the group norm, see `layers.GroupNorm`.
    joint: whether the pixels of all frames of a video are one sequence (RaMViD), or
      each frame is one (frames are batch).
    normed_residual: whether attention is added to the normalised input (FDM) or to the
      input.
  """

  head_dim: int
  norm_axes: Sequence[int]
  implementation: str = "auto"
  dtype: Any = jnp.float32
  groups: int = 0
  joint: bool = False
  normed_residual: bool = False

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """Computes attention, residual included."""
    channels = x.shape[-1]
    heads = heads_of(channels, self.head_dim)
    norm = layers.GroupNorm(
      self.norm_axes, groups=self.groups, dtype=self.dtype, name="norm"
    )
    normed = norm(x)
    qkv = layers.Dense(3 * channels, dtype=self.dtype, name="qkv")(normed)
    tokens = math.prod(x.shape[-4 if self.joint else -3 : -1])
    qkv = qkv.reshape(-1, tokens, 3, heads, self.head_dim)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    h = attend(q, k, v, implementation=self.implementation).reshape(x.shape)
    residual = normed if self.normed_residual else x
    return residual + layers.Dense(
      channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out"
    )(h)


class TimeAttention(nn.Module):
  """Self-attention among the frames at each pixel (space is batch).

  Positions enter as embeddings, on keys and values, of the difference of frame indices
  clipped to `max_distance` (Shaw et al. 2018). Frames attend to each other only if
  `Frames.attends` says so.

  Attributes:
    head_dim: width of a head.
    norm_axes: axes over which the group norm takes its statistics.
    max_distance: differences beyond it share one embedding.
    implementation: see `attend_over_time`.
    dtype: dtype of the computation.
  """

  head_dim: int
  norm_axes: Sequence[int]
  max_distance: int = 64
  implementation: str = "xla"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "b t h w c"], frames: Frames
  ) -> Float[Array, "b t h w c"]:
    """Computes attention, residual included."""
    b, t, height, width, channels = x.shape
    heads_of(channels, self.head_dim)
    h = layers.GroupNorm(self.norm_axes, dtype=self.dtype, name="norm")(x)
    qkv = layers.Dense(3 * channels, dtype=self.dtype, name="qkv")(h)
    qkv = qkv.reshape(b, t, height * width, 3 * channels)

    distance = frames.distances()
    bucket = jnp.clip(distance, -self.max_distance, self.max_distance)
    bucket = bucket + self.max_distance
    table = (2 * self.max_distance + 1, self.head_dim)
    init = nn.initializers.normal(self.head_dim**-0.5)
    rel_k = self.param("relative_key", init, table).astype(self.dtype)[bucket]
    rel_v = self.param("relative_value", init, table).astype(self.dtype)[bucket]
    h = attend_over_time(
      qkv, rel_k, rel_v, frames.attends(), self.head_dim, self.implementation
    )
    h = h.reshape(x.shape)
    return x + layers.Dense(
      channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out"
    )(h)


class AttentionPool(nn.Module):
  """Pools a sequence of token embeddings into one vector by learned queries.

  Attributes:
    features: width of the result.
    heads: number of learned queries, each of which reads its own part of the features.
    dtype: dtype of the computation.
  """

  features: int
  heads: int = 8
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, tokens: Float[ArrayLike, "*lead l d"], mask: Bool[ArrayLike, "*lead l"]
  ) -> Float[Array, "*lead {self.features}"]:
    """Pools the tokens where the mask is true.

    A sequence without any token gives exactly zero, the unconditional vector.
    """
    heads = math.gcd(self.heads, self.features)
    dim = self.features // heads
    # Normalised first: encoders differ in scale, and small inputs are learned late.
    tokens = nn.LayerNorm(use_bias=False, use_scale=False, dtype=jnp.float32)(tokens)
    tokens = tokens.astype(self.dtype)
    kv = layers.Dense(2 * self.features, dtype=self.dtype, name="kv")(tokens)
    k, v = jnp.split(kv.reshape(*kv.shape[:-1], heads, 2 * dim), 2, axis=-1)
    query = self.param("query", nn.initializers.normal(1.0), (heads, dim))
    # Summed in float32, as the logits of all attention here.
    scores = jnp.einsum(
      "...lnd,nd->...nl",
      k,
      query.astype(self.dtype),
      preferred_element_type=jnp.float32,
    )
    any_token = mask.any(-1)[..., None]
    keep = (mask | ~any_token)[..., None, :]
    scores = jnp.where(keep, scores * dim**-0.5, -jnp.inf)
    weight = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
    pooled = jnp.einsum("...nl,...lnd->...nd", weight, v)
    pooled = pooled.reshape(*pooled.shape[:-2], self.features)
    out = layers.Dense(self.features, dtype=self.dtype, name="out")(pooled)
    return jnp.where(any_token, out, 0)
