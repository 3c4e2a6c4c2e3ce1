"""The tables of discrete diffusion codes, from what the library computes with.

No formula of a table is written down here: coefficients are what `process` does to
ones and zeros.
"""

import jax.numpy as jnp
import numpy as np

from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import DiscreteSchedule


def tables(schedule: DiscreteSchedule) -> dict[str, np.ndarray]:
  """The tables [N] that improved-diffusion and RVD keep, before any clipping."""
  steps = jnp.arange(schedule.num_steps)
  t, s = schedule.level(steps), schedule.level(steps - 1)
  one, zero = jnp.ones(schedule.num_steps), jnp.zeros(schedule.num_steps)
  x_coefficient, lower = process.posterior(zero, one, t, s, gamma=0.0)
  z_coefficient, upper = process.posterior(one, zero, t, s, gamma=1.0)
  alphas_cumprod = process.alpha(t.logsnr) ** 2
  result = {
    "betas": schedule.betas,
    "alphas_cumprod": alphas_cumprod,
    "alphas_cumprod_prev": process.alpha(s.logsnr) ** 2,
    "alphas_cumprod_next": jnp.append(alphas_cumprod[1:], 0.0),
    "sqrt_alphas_cumprod": process.forward(one, zero, t),
    "sqrt_one_minus_alphas_cumprod": process.forward(zero, one, t),
    "log_one_minus_alphas_cumprod": 2 * jnp.log(process.forward(zero, one, t)),
    "sqrt_recip_alphas_cumprod": process.to_x("eps", zero, one, t),
    "sqrt_recipm1_alphas_cumprod": -process.to_x("eps", one, zero, t),
    "posterior_variance": jnp.exp(lower),
    "posterior_log_variance_clipped": lower,
    "posterior_mean_coef1": x_coefficient,
    "posterior_mean_coef2": z_coefficient,
    "fixed_large_log_variance": upper,
    "timestep_map": schedule.timestep_map,
    "network_timesteps": t.time,
    "model_time": t.time,
  }
  return {name: np.array(table) for name, table in result.items()}


def clip_first_variance(result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """improved-diffusion: the log variance of step 0 is the lower one of step 1."""
  lower = result["posterior_log_variance_clipped"]
  for name in ("posterior_log_variance_clipped", "fixed_large_log_variance"):
    result[name] = np.concatenate([lower[1:2], result[name][1:]])
  return result


def schedule_of(diffusion: dict) -> DiscreteSchedule:
  """The schedule of an improved-diffusion configuration."""
  make = {"linear": DiscreteSchedule.linear, "cosine": DiscreteSchedule.cosine}
  schedule = make[diffusion["noise_schedule"]](
    diffusion["steps"], rescale_time=diffusion.get("rescale_timesteps", True)
  )
  return schedule.respace(diffusion.get("timestep_respacing", ""))
