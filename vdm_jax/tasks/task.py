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


def register(name: str, make: Callable[..., Task]) -> None:
  """Makes a task nameable as `config.task.name`; `make` gets the other fields."""
  _REGISTRY.register(name, make)


def fields(name: str) -> list[str]:
  """Lists the fields that `config.task` may have beside the name of a task.

  Raises:
    UserError: there is no such task.
  """
  return list(inspect.signature(_find(name)).parameters)


def build(config: Mapping[str, Any]) -> Task:
  """Builds the task of a section `config.task`, whose other fields are arguments.

  `config.task.name` is a registered name, or a class or function of the user's as
  `package.module:attribute` or `path/to/file.py:attribute`. That code is imported and
  executed, even when a run is only loaded, so name and load only what you trust.

  Raises:
    UserError: the name or a field is unknown or missing, a field's value is invalid, or
      what is named makes no task.
  """
  fields = dict(config)
  name = fields.pop("name", None)
  if name is None:
    raise UserError("config.task.name: missing")
  make = _find(name)
  kind = f"field of task {name!r} (config.task)"
  names.check_arguments(make, fields, kind=kind, prefix="config.task.")
  task = make(**fields)
  if missing := names.missing(Task, task):
    raise UserError(
      f"config.task.name: expected {name!r} to return a task, found a "
      f"{type(task).__name__} without {', '.join(missing)}"
    )
  return task


def _find(name: str) -> Callable[..., Task]:
  make = _REGISTRY.find_or_import(name)
  if not callable(make):
    raise UserError(
      f"config.task.name: expected a class or function, but {name!r} is of type "
      f"{type(make).__name__}"
    )
  return make
