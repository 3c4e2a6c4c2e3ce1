"""FDM's attention over time, whose relative positions come from a network (sec. 4.1).

For every pair of frames a small network maps the distance of their indices and the
noise level to three vectors R per head, added to keys, queries and values. They are the
same for every pixel, so they are made once per call, [B, T, T, heads, head_dim], and
contracted with queries, keys and weights without a copy per pixel.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32

from vdm_jax.frames import Frames
from vdm_jax.models import attention, layers

# Channel groups of every normalisation in FDM, whatever the width.
GROUPS = 32


def distance_features(frames: Frames) -> Float32[Array, "b t t 3"]:
  """Computes log distance after and before, and equality, of each pair of frames."""
  distance = frames.distances().astype(jnp.float32)
  after = jnp.log1p(jnp.maximum(distance, 0.0))
  before = jnp.log1p(jnp.maximum(-distance, 0.0))
  return jnp.stack([after, before, (distance == 0).astype(jnp.float32)], axis=-1)


class RelativeNetwork(nn.Module):
  """The network of R for one of queries, keys and values; zero at initialisation.

  Attributes:
    channels: width of the result, heads * head_dim.
    dtype: dtype of the computation.
  """

  channels: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, features: Float[ArrayLike, "b t t 3"], emb: Float[ArrayLike, "b 1 e"]
  ) -> Float[Array, "b t t {self.channels}"]:
    """Maps distances and the embedded noise level to vectors."""
    # In float32, as half precision cannot tell distances above 30 or so from the next.
    distances = layers.Dense(self.channels, name="distances")(features)
    level = layers.Dense(self.channels, dtype=self.dtype, name="level")(emb)
    h = nn.silu(distances.astype(self.dtype) + level[:, :, None])
    return layers.Dense(
      self.channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out"
    )(h)


class FrameAttention(nn.Module):
  """Self-attention among the frames at each pixel (space is batch).

  The result is added to the *normalised* input, as in the authors' code, so that a
  block at initialisation normalises.

  Attributes:
    head_dim: width of a head.
    padding_in_norm: whether the norm's statistics include padding slots, as in the
      authors' code; the content of padding then influences real frames.
    dtype: dtype of the computation.
  """

  head_dim: int
  padding_in_norm: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[ArrayLike, "b t h w c"],
    emb: Float[ArrayLike, "b 1 e"],
    frames: Frames,
  ) -> Float[Array, "b t h w c"]:
    """Computes attention, residual included."""
    b, t, height, width, channels = x.shape
    heads = attention.heads_of(channels, self.head_dim)
    norm = layers.GroupNorm(
      layers.PER_PIXEL, groups=GROUPS, dtype=self.dtype, name="norm"
    )
    normed = norm(x, self._mask(x, frames))
    qkv = layers.Dense(3 * channels, dtype=self.dtype, name="qkv")(normed)
    qkv = qkv.reshape(b, t, height * width, 3, heads, self.head_dim)
    q, k, v = qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :]

    features = distance_features(frames)

    def relative(name):
      network = RelativeNetwork(channels, self.dtype, name=f"relative_{name}")
      return network(features, emb).reshape(b, t, t, heads, self.head_dim)

    scale = self.head_dim**-0.5
    q, scaled_k = q * scale, k * scale
    scores_of = attention.scores_of
    scores = scores_of("bipnd,bjpnd->bpnij", q, k)
    scores = scores + scores_of("bipnd,bijnd->bpnij", q, relative("key"))
    # Here the pair is reversed, from the key's frame to the query's.
    scores = scores + scores_of("bjpnd,bjind->bpnij", scaled_k, relative("query"))
    allowed = frames.attends()[:, None, None]
    scores = jnp.where(allowed, scores, -jnp.inf)
    weight = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
    h = jnp.einsum("bpnij,bjpnd->bipnd", weight, v)
    h = h + jnp.einsum("bpnij,bijnd->bipnd", weight, relative("value"))
    h = h.reshape(x.shape)
    return normed + layers.Dense(
      channels, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="out"
    )(h)

  def _mask(self, x: jax.Array, frames: Frames) -> jax.Array | None:
    """Returns the mask of the norm's statistics; None includes everything."""
    if self.padding_in_norm:
      return None
    # A window of nothing but padding has no effect but must stay finite.
    real = ~frames.padding | frames.padding.all(axis=1, keepdims=True)
    return jnp.broadcast_to(real[:, :, None, None, None], x.shape)
