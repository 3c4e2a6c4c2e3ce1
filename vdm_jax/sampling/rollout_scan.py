"""A whole roll-out as one program: a scan over frames around one over noise levels."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vdm_jax.frames import Frames
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.sampling.window import sample_window
from vdm_jax.systems import SamplingSystem


def sample_rollout(
  system: SamplingSystem,
  settings: SamplerSettings,
  params: Any,
  given: jax.Array,
  cond: Mapping[str, jax.Array],
  keys: jax.Array,
) -> jax.Array:
  """Samples frames one after the other, with a recurrent state.

  The frames equal those of the plan `rollout`, window by window, with the same keys.

  Args:
    system: system with a recurrent network.
    settings: settings of the sampler.
    params: parameters of the network.
    given: [B, K, H, W, C] in [-1, 1], the first frames of the videos.
    cond: conditioning signals, [B, G, ...].
    keys: [B, N], one key per video and new frame.

  Returns:
    float32 [B, N, H, W, C], the frames after the given ones.
  """

  def following(before, start, key, state):
    """Samples the frame [B, 1, H, W, C] after some frames that begin at `start`."""
    batch, count = before.shape[:2]
    slots = jnp.arange(count + 1)
    latent = jnp.broadcast_to(slots == count, (batch, count + 1))
    frames = Frames(
      index=jnp.broadcast_to((start + slots) * system.stride, latent.shape),
      observed=~latent,
      latent=latent,
      group=jnp.zeros(latent.shape, jnp.int32),
    )
    window = jnp.concatenate([before, jnp.zeros_like(before[:, :1])], axis=1)
    window, state = sample_window(
      system, settings, params, window, frames, cond, key, state
    )
    return window[:, -1:], state

  def step(carry, following_one):
    last, state = carry
    start, key = following_one
    new, state = following(last, start, key, state)
    return (new, state), new[:, 0]

  count, new = given.shape[1], keys.shape[1]
  first, state = following(given, 0, keys[:, 0], None)
  starts = count + jnp.arange(new - 1)
  _, rest = jax.lax.scan(step, (first, state), (starts, keys[:, 1:].T))
  return jnp.concatenate([first, jnp.moveaxis(rest, 0, 1)], axis=1)
