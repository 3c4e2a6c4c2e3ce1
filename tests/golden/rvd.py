"""Golden cases of RVD (Yang et al. 2022)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden import case as case_lib
from tests.golden import tables
from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import DiscreteSchedule

# RVD clips the posterior variance, which is zero at step 0, before the logarithm.
LOG_FLOOR = math.log(1e-20)


def _schedule(config: dict, num_steps: int) -> DiscreteSchedule:
  return DiscreteSchedule.cosine(
    num_steps, s=config["s"], max_beta=config["beta_clip"][1], rescale_time=False
  )


def rvd_schedule(case: case_lib.Case) -> case_lib.Errors:
  """Tables; the forward process, x from eps and the posterior. In float64."""
  config = case.meta["config"]
  computed = {}
  with jax.enable_x64(True):
    for num_steps in config["timesteps"]:
      result = tables.tables(_schedule(config, num_steps))
      log_variance = result["posterior_log_variance_clipped"]
      result["posterior_log_variance_clipped"] = np.maximum(log_variance, LOG_FLOOR)
      computed |= {f"out/T{num_steps}/{k}": table for k, table in result.items()}
    schedule = _schedule(config, max(config["timesteps"]))
    x0, x, eps, step = (
      jnp.asarray(case.arrays[f"in/{name}"]) for name in ("x0", "x", "eps", "t")
    )
    t, s = schedule.level(step), schedule.level(step - 1)
    mean, log_variance = process.posterior(x, x0, t, s)
    computed |= {
      "out/q_sample": process.forward(x0, eps, t),
      "out/x0_from_eps": process.to_x("eps", eps, x, t),
      "out/posterior_mean": mean,
      "out/posterior_log_variance": jnp.maximum(log_variance, LOG_FLOOR),
    }
  return case_lib.compare(case, computed, case_lib.elementwise)


KINDS = {"rvd_schedule": rvd_schedule}
