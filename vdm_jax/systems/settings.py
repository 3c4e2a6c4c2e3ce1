"""What systems read out of a config in the same way."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vdm_jax import errors, tasks
from vdm_jax.diffusion import schedule as schedules
from vdm_jax.systems import parts

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("cosine", "straight", "cosine_steps", "linear_steps")
Schedule = schedules.ContinuousSchedule | schedules.DiscreteSchedule


def dtype(config: Mapping[str, Any]) -> Any:
  """Finds the dtype that `config.dtype` names; UserError if there is none."""
  if config["dtype"] not in DTYPES:
    raise errors.unknown("config.dtype", config["dtype"], DTYPES)
  return DTYPES[config["dtype"]]


def schedule(d: Mapping[str, Any]) -> Schedule:
  """Makes the schedule that `config.diffusion` describes.

  'cosine' and 'straight' are in continuous time (`logsnr_min`, `logsnr_max`,
  `logsnr_shift`);
  'cosine_steps' and 'linear_steps' are lists of `num_steps` levels (`rescale_time`,
  and for the first `cosine_s` and `max_beta`, see `DiscreteSchedule`).

  Raises:
    UserError: there is no such schedule.
  """
  name = d["schedule"]
  continuous = {
    "cosine": schedules.CosineSchedule,
    "straight": schedules.StraightSchedule,
  }
  if name in continuous:
    return continuous[name](d["logsnr_min"], d["logsnr_max"], d["logsnr_shift"])
  if name == "linear_steps":
    return schedules.DiscreteSchedule.linear(
      d["num_steps"], rescale_time=d["rescale_time"]
    )
  if name == "cosine_steps":
    return schedules.DiscreteSchedule.cosine(
      d["num_steps"],
      s=d.get("cosine_s", 0.008),
      max_beta=d.get("max_beta", 0.999),
      rescale_time=d["rescale_time"],
    )
  raise errors.unknown("config.diffusion.schedule", name, SCHEDULES)


def plan(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  """Reads name and options of the plan in `config.plan`; without one, `blocks`."""
  options = dict(config.get("plan") or {"name": "blocks"})
  return options.pop("name"), options


def objective(d: Mapping[str, Any]) -> parts.Objective:
  """Makes the objective of `config.diffusion`; fields it lacks are the default's.

  Raises:
    UserError: a field has no such value.
  """
  chosen = {key: d[key] for key in ("weighting", "norm", "where", "normalise", "kind")
            if key in d}  # fmt: skip
  return parts.Objective(predict=d["predict"], space=d["loss_space"], **chosen)


def shared(config: Mapping[str, Any]) -> dict[str, Any]:
  """Reads the arguments of `DiffusionSystem` that all papers have alike.

  Raises:
    UserError: a field has no such value.
  """
  d, task = config["diffusion"], tasks.from_config(config["task"])
  name, options = plan(config)
  return dict(
    schedule=schedule(d),
    objective=objective(d),
    task=task,
    frame_shape=tuple(config["data"]["frame_shape"]),
    window=task.num_frames,
    stride=config["task"].get("stride", 1),
    gamma=d.get("gamma", 0.0),
    given_noise=d.get("given_noise", 0.0),
    plan=name,
    plan_options=options,
  )
