"""What a task is, and how a config names one."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from vdm_jax import errors, names


class Selection(NamedTuple):
  """The frames of one training example; arrays are [T], on the host.

  Attributes:
    index: int32, which frame of its source video each slot holds.
    observed: bool, given to the model clean.
    latent: bool, scored.
    group: int32, temporal attention joins equal groups only.
    source: int32, which video a slot is read from: 0 is the example's own,
      k > 0 the k-th other video of the data set.
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

  Attributes:
    num_frames: T, the same for every example.
    num_sources: 1 + the number of other videos an example reads from.
    min_length: number of frames a video must have to be drawn.
  """

  num_frames: int
  num_sources: int
  min_length: int

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    """Draws one example from sources of `lengths` (num_sources of them) frames."""
    ...


_REGISTRY: names.Registry[Callable[..., Task]] = names.Registry(
  "task (config.task.name)"
)


def register(name: str, build: Callable[..., Task]) -> None:
  """Makes a task nameable as `config.task.name`; `build` gets the other fields."""
  _REGISTRY.register(name, build)


def from_config(config: Mapping[str, Any]) -> Task:
  """Builds the task that `config.task` names; its other fields are arguments.

  Raises:
    UserError: the name or a field is unknown, or a field's value is refused.
  """
  fields = dict(config)
  name = fields.pop("name")
  build = _REGISTRY.find(name)
  accepted = set(inspect.signature(build).parameters)
  for field in fields:
    if field not in accepted:
      raise errors.unknown(f"field of task {name!r} (config.task)", field, accepted)
  return build(**fields)
