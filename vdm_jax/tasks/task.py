"""The interface of tasks, and their registry."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from vdm_jax import names
from vdm_jax.errors import UserError


class Selection(NamedTuple):
  """The frames of one training example; arrays are [T], on the host.

  Attributes:
    index: int32, the frame of its source video that each slot holds.
    observed: bool, given to the model clean.
    latent: bool, scored.
    group: int32; temporal attention joins frames of equal group only.
    source: int32, the video that a slot is read from: 0 is the example's own, k > 0 the
      k-th other video of the data set.
    flip: whether all frames are mirrored left-right.
  """

  index: np.ndarray
  observed: np.ndarray
  latent: np.ndarray
  group: np.ndarray
  source: np.ndarray
  flip: bool = False


class Task(Protocol):
  """A distribution over the frames of a training example.

  A class derived from this one needs `num_frames`, `min_length` and `sample`.

  Attributes:
    num_frames: number of frames T, the same for every example.
    min_length: number of frames that a video must have to be drawn.
    num_sources: 1 + the number of other videos that an example reads from.
    window: number of frames that a model trained by this task samples at a time;
      those of T that do not come from other videos.
    stride: distance between neighbouring frames of a sampled video, in source frames.
    min_given: number of frames that a video must start with for such a model.
  """

  num_frames: int
  min_length: int
  num_sources: int = 1
  stride: int = 1
  min_given: int = 0

  @property
  def window(self) -> int:
    return self.num_frames

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    """Draws one example from `num_sources` sources of `lengths` frames each."""
    ...


_REGISTRY: names.Registry[Callable[..., Task]] = names.Registry(
  "task (config.task.name)"
)


def register(name: str, build: Callable[..., Task]) -> None:
  """Makes a task nameable as `config.task.name`; `build` gets the other fields."""
  _REGISTRY.register(name, build)


def fields(name: str) -> list[str]:
  """Lists the fields that `config.task` may have beside the name of a task.

  Raises:
    UserError: there is no such task.
  """
  return list(inspect.signature(_REGISTRY.find(name)).parameters)


def from_config(config: Mapping[str, Any]) -> Task:
  """Builds the task that `config.task` names; its other fields are arguments.

  Raises:
    UserError: the name or a field is unknown or missing, or a field's value is invalid.
  """
  fields = dict(config)
  name = fields.pop("name", None)
  if name is None:
    raise UserError("config.task.name: missing")
  build = _REGISTRY.find(name)
  kind = f"field of task {name!r} (config.task)"
  names.check_arguments(build, fields, kind=kind, prefix="config.task.")
  return build(**fields)
