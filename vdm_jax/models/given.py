"""Given frames as input of the frames between them.

The papers' networks have to learn, by attention or over many convolutions, which given
frame says what about the frame that they denoise. A small network that is trained for
minutes does not: it carries over where things are, not what they look like.
`neighbours` adds the given frames nearest in time, aligned by pixel; `Pooled` describes
the content of given frames, whatever its position and however far away they are.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from vdm_jax.frames import Frames
from vdm_jax.models import layers


def neighbours(
  video: Float[ArrayLike, "b t h w c"], frames: Frames
) -> Float[Array, "b t h w k"]:
  """Finds, for every frame, the given frames nearest in time and their distances.

  Args:
    video: the window; only given frames are read.
    frames: roles of the frames, [B, T].

  Returns:
    2 (C + 1) channels: the last given frame at or before each frame and the
    logarithm of 1 + its distance in source frames, then the same for the first given
    frame at or after it. A missing one is a black frame and -1. A given frame is its
    own neighbour.
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
    frame = jnp.take_along_axis(video, per_frame(nearest), axis=1)
    shown.append(jnp.where(per_frame(some), frame, -1.0))
    shown.append(jnp.broadcast_to(per_frame(far), (*video.shape[:-1], 1)))
  return jnp.concatenate(shown, axis=-1).astype(video.dtype)


class Pooled(nn.Module):
  """Features of the given frames, averaged over all their pixels.

  Attributes:
    channels: channels of the first of three convolutions; the others have 2 and 4 times
      as many.
    features: width of the result.
    patch: edge, in pixels, of the patches that are read.
    dtype: dtype of the computation.
  """

  channels: int
  features: int
  patch: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, video: Float[ArrayLike, "b t h w c"], observed: Bool[ArrayLike, "b t"]
  ) -> Float[Array, "b {self.features}"]:
    """Describes the observed frames; zeros if there are none."""
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


def per_frame(a: Shaped[ArrayLike, "b t"]) -> Shaped[ArrayLike, "b t 1 1 1"]:
  """Adds axes, so that a value of each frame meets its pixels."""
  return a[:, :, None, None, None]
