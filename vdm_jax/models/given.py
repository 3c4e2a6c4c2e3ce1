"""Given frames, shown to the frames between them.

The papers' networks have to find out by themselves which given frame tells what of the
frame that they denoise, by attention or over many convolutions. A small network that is
trained for minutes does not: what is carried is where things are, not what they look
like.
"""

import jax
import jax.numpy as jnp

from vdm_jax.frames import Frames


def neighbours(video: jax.Array, frames: Frames) -> jax.Array:
  """For every frame the given ones next to it in time, and how far they are.

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


def _per_frame(a: jax.Array) -> jax.Array:
  """[B, T] to [B, T, 1, 1, 1]."""
  return a[:, :, None, None, None]
