"""Given frames, shown to the frames between them.

The papers' networks have to find out by themselves which given frame tells what of the
frame that they denoise, by attention or over many convolutions. A small network that is
trained for minutes does not: what is carried is where things are, not what they look
like. `neighbours` shows the frames next in time, pixel on pixel; `Pooled` tells what is
to be seen in given frames however far they are and wherever in them it is.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vdm_jax.frames import Frames
from vdm_jax.models import layers


def neighbours(video: jax.Array, frames: Frames) -> jax.Array:
  """Finds for every frame the given ones next to it in time, and how far they are.

  Args:
    video: [B, T, H, W, C]; given frames alone are looked at.
    frames: of shape [B, T].

  Returns:
    [B, T, H, W, 2 (C + 1)]: the last given frame at or before each and the logarithm of
    1 + its distance, in frames of the source; then the first at or after. Where there
    is none, a black frame and -1. A given frame is its own neighbour.
  """
  index = frames.index
  later = index[:, :, None] - index[:, None, :]  # [B, T, S]: from s to t.
  seen = frames.observed[:, None, :] & (
    frames.group[:, :, None] == frames.group[:, None, :]
  )
  shown = []
  for distance in (later, -later):
    fits = seen & (distance >= 0)
    nearest = jnp.argmin(jnp.where(fits, distance, jnp.iinfo(jnp.int32).max), axis=-1)
    some = fits.any(-1)
    far = jnp.take_along_axis(distance, nearest[..., None], axis=-1)[..., 0]
    far = jnp.where(some, jnp.log1p(far.astype(video.dtype)), -1.0)
    frame = jnp.take_along_axis(video, _per_frame(nearest), axis=1)
    shown.append(jnp.where(_per_frame(some), frame, -1.0))
    shown.append(jnp.broadcast_to(_per_frame(far), (*video.shape[:-1], 1)))
  return jnp.concatenate(shown, axis=-1).astype(video.dtype)


class Pooled(nn.Module):
  """What the given frames look like: features averaged over all of their pixels.

  Attributes:
    channels: of the first of three convolutions; the others have 2 and 4 times as many.
    features: of the result.
    patch: pixels along an edge of the patches that are looked at.
    dtype: of the computation.
  """

  channels: int
  features: int
  patch: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, observed: jax.Array) -> jax.Array:
    """[B, T, H, W, C] and bool [B, T] to [B, features]; zeros where none is given."""
    h = layers.to_patches(video.astype(self.dtype), self.patch)
    for i, stride in enumerate((1, 1, 2)):
      conv = layers.SpaceConv(
        self.channels << i, stride=stride, dtype=self.dtype, name=f"conv_{i}"
      )
      h = nn.silu(conv(h))
    count = jnp.maximum(observed.sum(1), 1)[:, None]
    seen = jnp.where(observed[:, :, None], h.mean((2, 3)), 0).sum(1) / count
    for i in range(2):
      seen = layers.Dense(self.features, dtype=self.dtype, name=f"dense_{i}")(seen)
      seen = seen if i else nn.silu(seen)
    return jnp.where(observed.any(1)[:, None], seen, 0)


def _per_frame(a: jax.Array) -> jax.Array:
  """[B, T] to [B, T, 1, 1, 1]."""
  return a[:, :, None, None, None]
