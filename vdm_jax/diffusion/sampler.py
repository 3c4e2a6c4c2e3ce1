"""Sampling, from noise to video, one step at a time.

`sample` is the only loop: one `lax.scan` over the steps of a sampler, with one network
call in its body whatever the sampler. Guidance and thresholding wrap the denoiser;
conditioning frames enter by the denoiser or by `constrain`.

Noise comes from a *source* (see `noise`): a sample depends on its key, not on the batch
that it is drawn with.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Shaped

from vdm_jax.diffusion import noise as noise_lib
from vdm_jax.diffusion import process
from vdm_jax.diffusion.process import Denoiser
from vdm_jax.diffusion.schedule import Level
from vdm_jax.diffusion.step_rule import (
  Ancestral,
  Ddim,
  DpmSolverPP2M,
  LangevinCorrector,
  Resample,
  Sampler,
)
from vdm_jax.errors import unknown

__all__ = [
  "Ancestral",
  "Constrain",
  "Ddim",
  "DpmSolverPP2M",
  "LangevinCorrector",
  "Resample",
  "Sample",
  "Sampler",
  "Trajectory",
  "sample",
]

# Maps z, its level and a source of noise to the z that the network sees.
Constrain = Callable[
  [Float[Array, "b ..."], Level, noise_lib.Source | None], Float[Array, "b ..."]
]
Final = Literal["estimate", "state"]


class Trajectory(NamedTuple):
  """States after every k-th step, and the estimates in it."""

  states: Float[Array, "steps b ..."]
  estimates: Float[Array, "steps b ..."]


class Sample(NamedTuple):
  """A finished sample `x`, and the `trajectory` that led to it, if requested."""

  x: Float[Array, "b ..."]
  trajectory: Trajectory | None


def sample(
  denoiser: Denoiser,
  sampler: Sampler,
  grid: Level,
  z: Float[ArrayLike, "b ..."],
  *,
  key: Key[Array, ""] | Key[Array, " b"] | None = None,
  noise: Any = None,
  constrain: Constrain | None = None,
  constrain_noise: Shaped[ArrayLike, "steps ..."] | None = None,
  final: Final = "estimate",
  trajectory_every: int | None = None,
) -> Sample:
  """Runs a sampler over a grid of levels.

  Args:
    denoiser: called once per step, with the levels of the grid as they are (shape []
      for a plain grid).
    sampler: the step rule.
    grid: levels [N + 1] (or [N + 1, B], [N + 1, B, T]), noisiest first; the network
      is not called at the last.
    z: noise to start from.
    key: a key, or one per example; folded with the step.
    noise: the noise of every step in order, [E, B, ...] (for `Resample`, a pair of
      such arrays), instead of a key.
    constrain: applied to z before every network call, with the level and a source of
      noise for `normal`; replaces or overwrites given frames.
    constrain_noise: sources of noise for `constrain`, [E, ...], instead of keys.
    final: what to return. "estimate" is the clean video that the last step headed for:
      the denoiser's estimate (extrapolated if the last step is second order). "state"
      is z after the last step. For a discrete schedule the two are the same.
    trajectory_every: record every k-th step, counted from the last; only recorded steps
      take memory.

  Returns:
    The sample, float32 or the dtype of z if that is wider, and the trajectory.

  Raises:
    UserError: the sampler is stochastic and there is neither key nor noise.
  """
  if final not in get_args(Final):
    raise unknown("final", final, get_args(Final))
  z = process.at_least_float32(z)
  steps = sampler.plan(grid)
  num_steps = steps.last.shape[0]
  every = trajectory_every or num_steps
  step_source = noise_lib.per_step(key, noise, z.shape[0], purpose=0)
  constrain_source = noise_lib.per_step(key, constrain_noise, z.shape[0], purpose=1)

  def body(carry, inputs):
    z, _, memory, record = carry
    index, step = inputs
    if constrain is not None:
      z = constrain(z, step.level, constrain_source(index))
    estimate = denoiser(z, step.level)
    estimate = estimate.replace(x=estimate.x.astype(z.dtype))
    drawn = sampler.draw(step_source(index), z.shape)
    z, x, memory = sampler.step(z, estimate, step, drawn, memory)
    if record is not None:
      # Steps between two recorded ones go to a slot beyond the end, which is dropped.
      left = num_steps - 1 - index
      slots = record.states.shape[0]
      slot = jnp.where(left % every == 0, slots - 1 - left // every, slots)
      record = Trajectory(
        *(a.at[slot].set(b, mode="drop") for a, b in zip(record, (z, x), strict=True))
      )
    return (z, x, memory, record), None

  record = None
  if trajectory_every is not None:
    slots = -(-num_steps // every)
    record = Trajectory(*(jnp.zeros((slots, *z.shape), z.dtype) for _ in range(2)))
  carry = (z, jnp.zeros_like(z), sampler.init(z, steps), record)
  (z, x, _, record), _ = jax.lax.scan(body, carry, (jnp.arange(num_steps), steps))
  return Sample(x if final == "estimate" else z, record)
