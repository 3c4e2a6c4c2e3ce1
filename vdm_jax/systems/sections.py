"""What systems read out of a config in the same way."""

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
    cls: whose fields with defaults may be missing: runs from before they were there.
    values: the section.
    section: its name, of errors: 'config.model'.
    **fields: of `cls`, that are not the section's.

  Raises:
    UserError: a field is unknown or missing, or its value is refused.
  """
  known = {f.name: f for f in dataclasses.fields(cls) if f.name not in fields}
  for name in values:
    if name not in known:
      raise errors.unknown(f"field of {section}", name, known)
  for name, field in known.items():
    if name not in values and field.default is dataclasses.MISSING:
      raise errors.UserError(f"{section}.{name}: missing")
  return cls(**values, **fields)


def network(
  cls: type[T], config: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> T:
  """Reads `config.model` into the settings of a network that gives frames.

  Args:
    cls: of the settings.
    config: complete.
    model: the section without what is not the network's; None for all of it.

  Raises:
    UserError: as `read`, or there is no such dtype.
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
  """`config.diffusion`, as configs/common.py explains its fields.

  Attributes:
    cosine_s, max_beta: of 'cosine_steps', see `DiscreteSchedule.cosine`.
    rescale_time: of lists of steps, see `DiscreteSchedule`.
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
    """The schedule of noise levels.

    'cosine' and 'straight' are in continuous time; 'cosine_steps' and 'linear_steps'
    are lists of `num_steps` levels.

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
    """How a prediction is scored.

    Raises:
      UserError: a field has no such value.
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
  """Reads name and options of the plan in `config.plan`; without one, `blocks`."""
  options = dict(config.get("plan") or {"name": "blocks"})
  return options.pop("name"), options


def shared(
  config: Mapping[str, Any], diffusion: Diffusion | None = None
) -> dict[str, Any]:
  """Arguments of `DiffusionSystem` that are read alike for every paper.

  Args:
    config: complete.
    diffusion: its section, where a paper has read it already.

  Raises:
    UserError: a field has no such value.
  """
  task = tasks.from_config(config["task"])
  d = diffusion or read(Diffusion, config["diffusion"], "config.diffusion")
  name, options = plan(config)
  return dict(
    schedule=d.make_schedule(),
    objective=d.objective(),
    task=task,
    frame_shape=tuple(config["data"]["frame_shape"]),
    window=task.num_frames,
    stride=config["task"].get("stride", 1),
    gamma=d.gamma,
    given_noise=d.given_noise,
    plan=name,
    plan_options=options,
  )
