"""Sampling of one window, the program that sampling compiles."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdm_jax.diffusion import guidance, noise, sampler
from vdm_jax.frames import Frames
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.systems import SamplingSystem


class LowRes(NamedTuple):
  """A low-resolution video that the sampled one, averaged to its size, should match.

  Attributes:
    video: float32 [B, T, h, w, C] in [-1, 1].
    known: bool [B, T], the frames that it holds.
  """

  video: jax.Array
  known: jax.Array


def sample_window(
  system: SamplingSystem,
  settings: SamplerSettings,
  params: Any,
  video: jax.Array,
  frames: Frames,
  cond: Mapping[str, jax.Array],
  keys: jax.Array,
  state: Any = None,
  low_res: LowRes | None = None,
  *,
  any_observed: bool = True,
) -> tuple[jax.Array, Any]:
  """Samples the latent frames of a batch of windows given the observed ones.

  Args:
    system: system whose network samples.
    settings: settings of the sampler.
    params: parameters of the network.
    video: [B, T, H, W, C] in [-1, 1]; only observed frames are read.
    frames: roles of the frames.
    cond: conditioning signals, [B, G, ...]; under 'negative' those that guidance moves
      away from, by default none.
    keys: one key per video [B]; a video depends on its key, not on the batch.
    state: recurrent state after the window before; None for the first one.
    low_res: low-resolution video that guides sampling; None for none.
    any_observed: whether any frame is observed; False skips the work for it.

  Returns:
    float32 [B, T, H, W, C], with observed frames as given (unless the settings say
    otherwise) and the others sampled; and the recurrent state, None for a network
    without one.
  """
  observed = frames.observed[..., None, None, None]
  video = jnp.where(observed, video, 0.0)
  cond = dict(cond)
  named = cond.pop("negative", {})
  negative = system.cond.hide_all(cond) | named
  encoded = system.encode(params, video, frames, cond, state)
  denoiser = system.denoiser(params, frames, encoded.context)
  if settings.guidance:
    twice = _paired((video, frames, state), (video, frames, state))
    context = system.encode(
      params, *twice[:2], _paired(cond, negative), twice[2]
    ).context
    both = system.denoiser(params, twice[1], context)
    denoiser = guidance.classifier_free_paired(both, settings.guidance)

  constrain, towards = None, ()
  if any_observed:
    constrain, towards = system.observed.sampling(
      encoded.residual(video), frames.observed, settings.towards_given
    )
  if low_res is not None:
    made_one = (video.shape[2] // low_res.video.shape[2]) ** 2
    weight = settings.super_resolution_weight or float(made_one)
    towards = [*towards, guidance.low_resolution(*low_res, weight)]
  if towards:
    denoiser = guidance.toward(denoiser, towards, fixed=frames.observed)
  bound = system.threshold_bound
  bounds = (-bound, bound) if bound is not None else encoded.bounds
  denoiser = settings.clip(denoiser, *bounds)

  start, path = jax.vmap(lambda k: jax.random.split(k), out_axes=1)(keys)
  x = sampler.sample(
    denoiser,
    settings.make_sampler(any_observed),
    settings.grid(system.schedule),
    noise.normal(start, video.shape),
    key=path,
    constrain=constrain,
  ).x
  x = encoded.video(x)
  return jnp.where(observed, video, x) if settings.restore_given else x, encoded.state


def _paired(first: Any, second: Any) -> Any:
  """Interleaves two trees of B rows: each row of the first, then that of the second."""
  return jax.tree.map(
    lambda a, b: jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:]), first, second
  )
