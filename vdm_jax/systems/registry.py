"""The interface of systems, and their registry."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax

from vdm_jax import names, plans
from vdm_jax.diffusion.process import Denoiser
from vdm_jax.diffusion.schedule import ContinuousSchedule, DiscreteSchedule
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models.network import Encoded
from vdm_jax.systems.observed import HowObserved
from vdm_jax.systems.parts import CondSpec, Noise, Objective, Scored
from vdm_jax.tasks import Task


class System(Protocol):
  """What training needs of a system.

  Attributes:
    task: training distribution over frames.
    cond: conditioning signals that the network takes.
    pipeline_cond: names of the signals that a batch must carry, 'label' or 'tokens'.
    pipeline_extras: names of the per-frame values of the data set that a batch must
      carry, as `batch["extras"][name]`, float32 [B, T, D].
    can_sample: whether this is a `SamplingSystem`, too.
  """

  task: Task
  cond: CondSpec
  pipeline_cond: Sequence[str]
  pipeline_extras: Sequence[str]
  can_sample: bool

  def batch_spec(self, batch_size: int) -> dict[str, Any]:
    """Describes shapes and dtypes of a training batch, by `jax.ShapeDtypeStruct`s."""
    ...

  def init(self, key: jax.Array) -> Any:
    """Makes float32 parameters."""
    ...

  def loss(
    self, params: Any, batch: Mapping[str, Any], key: jax.Array, train: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the scalar loss of a batch and its metrics, each [total, count].

    See `training.program.Trainable` for what the batch holds beside `batch_spec`.
    """
    ...


class SamplingSystem(System, Protocol):
  """What sampling and evaluation need of a system, beside what training needs.

  Attributes:
    frame_shape: (H, W, C).
    schedule: schedule of noise levels.
    objective: how a prediction is scored.
    observed: how observed frames enter.
    windows: which frames a sampled window may hold.
    window: number of frames that sampling takes at a time.
    stride: distance between neighbouring frames of a sampled video, in source frames.
    min_given: number of frames that a video must start with.
    gamma: variance of the reverse process in the bound, if it is not learned, from its
      lower (0) to its upper limit (1).
    threshold_bound: sampling clips estimated residuals to +- this; None clips the
      frames that they imply to [-1, 1].
    plan: name of the default sampling plan.
    plan_options: options of that plan.
  """

  frame_shape: tuple[int, int, int]
  schedule: ContinuousSchedule | DiscreteSchedule
  objective: Objective
  observed: HowObserved
  windows: plans.Windows
  window: int
  stride: int
  min_given: int
  gamma: float
  threshold_bound: float | None
  plan: str
  plan_options: Mapping[str, Any]

  def encode(
    self,
    params: Any,
    video: jax.Array,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    state: Any = None,
  ) -> Encoded:
    """Encodes a window, float32 [B, T, H, W, C] in [-1, 1], once for all levels."""
    ...

  def denoiser(self, params: Any, frames: Frames, context: Any) -> Denoiser:
    """Makes the denoiser of a window from the context that `encode` returned."""
    ...

  def noise(self, u: jax.Array, eps: jax.Array) -> Noise:
    """Makes noise of standard normal eps [B, T, H, W, C] at times u [B] in [0, 1)."""
    ...

  def score(
    self,
    params: Any,
    video: jax.Array,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    noise: Noise,
  ) -> Scored:
    """Computes the loss of a video [B, T, H, W, C] at given noise."""
    ...


_REGISTRY: names.Registry[Callable[[Mapping[str, Any]], System]] = names.Registry(
  "system (config.system)"
)


def register(name: str, build_system: Callable[[Mapping[str, Any]], System]) -> None:
  """Registers a name for `config.system`, in this process.

  A run that other processes load, such as `vdm-jax sample`, must name the function
  itself instead, see `build`.

  Args:
    name: name for configs to use.
    build_system: function that builds a system from a config of plain dicts and lists.
  """
  _REGISTRY.register(name, build_system)


def build(config: Mapping[str, Any]) -> System:
  """Builds the system that a config describes.

  `config.system` is a registered name, or a function of the user's as
  `package.module:function` or `path/to/file.py:function`. That code is imported and
  executed, even when a run is only loaded, so name and load only what you trust.

  Raises:
    UserError: `config.system` is unknown, names no such function or one that does not
      return a system; or a field of the config is invalid.
  """
  if "system" not in config:
    raise UserError("config.system: missing")
  name = config["system"]
  make = _REGISTRY.find_or_import(name)
  if not callable(make):
    raise UserError(
      f"config.system: expected a function of the config, but {name!r} is of type "
      f"{type(make).__name__}"
    )
  system = make(config)
  interface = SamplingSystem if getattr(system, "can_sample", False) else System
  if missing := names.missing(interface, system):
    raise UserError(
      f"config.system: expected {name!r} to return a system, found a "
      f"{type(system).__name__} without {', '.join(missing)}"
    )
  return system
