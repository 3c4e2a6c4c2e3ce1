"""Sections of a config that all systems read in the same way."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax.numpy as jnp

from vdm_jax import errors, tasks
from vdm_jax.diffusion import schedule as schedules
from vdm_jax.systems import parts

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
SCHEDULES = ("cosine", "straight", "cosine_steps", "linear_steps")
T = TypeVar("T")
Schedule = schedules.ContinuousSchedule | schedules.DiscreteSchedule


def dtype(config: Mapping[str, Any]) -> Any:
  """Finds the dtype that `config.dtype` names; UserError if there is none."""
  if config["dtype"] not in DTYPES:
    raise errors.unknown("config.dtype", config["dtype"], DTYPES)
  return DTYPES[config["dtype"]]


def read(cls: type[T], values: Mapping[str, Any], section: str, **fields: Any) -> T:
  """Reads a section of a config into a dataclass.

  Args:
    cls: dataclass whose fields with defaults may be missing, as in older runs.
    values: the section.
    section: its name for error messages, such as 'config.model'.
    **fields: fields of `cls` that the section does not hold.

  Raises:
    UserError: a field is unknown or missing, or its value is invalid.
  """
  known = {f.name: f for f in dataclasses.fields(cls) if f.name not in fields}
  for name in values:
    if name not in known:
      raise errors.unknown(f"field of {section}", name, known)
  for name, field in known.items():
    if name not in values and field.default is dataclasses.MISSING:
      raise errors.UserError(f"{section}.{name}: missing")
  return cls(**values, **fields)


def take(values: dict[str, Any], name: str, section: str) -> Any:
  """Removes a field from a section that was copied, and returns its value.

  Raises:
    UserError: it is missing.
  """
  if name not in values:
    raise errors.UserError(f"{section}.{name}: missing")
  return values.pop(name)


def network(
  cls: type[T], config: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> T:
  """Reads `config.model` into the settings of a network that predicts frames.

  Args:
    cls: class of the settings.
    config: complete config.
    model: the part of the section that is the network's; None for all of it.

  Raises:
    UserError: as in `read`, or there is no such dtype.
  """
  return read(
    cls,
    config["model"] if model is None else model,
    "config.model",
    out_channels=config["data"]["frame_shape"][2],
    dtype=dtype(config),
  )


@dataclasses.dataclass(frozen=True)
class Diffusion:
  """The section `config.diffusion`, whose fields configs/common*.py explain.

  Attributes:
    cosine_s, max_beta: for 'cosine_steps', see `DiscreteSchedule.cosine`.
    rescale_time: for discrete schedules, see `DiscreteSchedule.from_betas`.
  """

  schedule: str
  predict: str
  loss_space: str = ""
  logsnr_min: float = -20.0
  logsnr_max: float = 20.0
  logsnr_shift: float = 0.0
  num_steps: int = 1000
  rescale_time: bool = True
  cosine_s: float = 0.008
  max_beta: float = 0.999
  weighting: str = "simple"
  norm: str = "l2"
  where: str = "latent"
  normalise: str = "selected"
  kind: str = "mse"
  gamma: float = 0.0
  given_noise: float = 0.0

  def make_schedule(self) -> Schedule:
    """Makes the schedule of noise levels.

    'cosine' and 'straight' are in continuous time; 'cosine_steps' and 'linear_steps'
    have `num_steps` discrete levels.

    Raises:
      UserError: there is no such schedule.
    """
    continuous = {
      "cosine": schedules.CosineSchedule,
      "straight": schedules.StraightSchedule,
    }
    if self.schedule in continuous:
      return continuous[self.schedule](
        self.logsnr_min, self.logsnr_max, self.logsnr_shift
      )
    if self.schedule == "linear_steps":
      return schedules.DiscreteSchedule.linear(
        self.num_steps, rescale_time=self.rescale_time
      )
    if self.schedule == "cosine_steps":
      return schedules.DiscreteSchedule.cosine(
        self.num_steps,
        s=self.cosine_s,
        max_beta=self.max_beta,
        rescale_time=self.rescale_time,
      )
    raise errors.unknown("config.diffusion.schedule", self.schedule, SCHEDULES)

  def objective(self) -> parts.Objective:
    """Makes the objective by which predictions are scored.

    Raises:
      UserError: a field's value is invalid.
    """
    return parts.Objective(
      predict=self.predict,
      space=self.loss_space or self.predict,
      weighting=self.weighting,
      norm=self.norm,
      where=self.where,
      normalise=self.normalise,
      kind=self.kind,
    )


def plan(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
  """Reads name and options of the plan in `config.plan`; the default is `blocks`.

  Raises:
    UserError: there are options without a name.
  """
  options = dict(config.get("plan") or {"name": "blocks"})
  return take(options, "name", "config.plan"), options


def shared(
  config: Mapping[str, Any], diffusion: Diffusion | None = None
) -> dict[str, Any]:
  """Reads the arguments of `DiffusionSystem` that are alike for every paper.

  Args:
    config: complete config.
    diffusion: its section `diffusion`, if the paper has read it already.

  Raises:
    UserError: a field's value is invalid.
  """
  task = tasks.build(config["task"])
  d = diffusion or read(Diffusion, config["diffusion"], "config.diffusion")
  name, options = plan(config)
  return dict(
    schedule=d.make_schedule(),
    objective=d.objective(),
    task=task,
    frame_shape=tuple(config["data"]["frame_shape"]),
    window=task.window,
    stride=task.stride,
    min_given=task.min_given,
    gamma=d.gamma,
    given_noise=d.given_noise,
    plan=name,
    plan_options=options,
  )
