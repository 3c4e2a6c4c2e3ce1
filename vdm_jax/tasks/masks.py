"""Tasks in which some frames of a clip are given: RaMViD's and MCVD's."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.tasks.clips import Unconditional
from vdm_jax.tasks.task import Selection, Task


@dataclasses.dataclass(frozen=True)
class RandomMask(Unconditional):
  """A random clip with a random set of given frames (RaMViD, section 3.1).

  With probability p_U no frame is given; otherwise a number from 1 to K is drawn, and
  then as many frames of the range, with all sets equally likely.

  Attributes:
    max_observed: largest number K of given frames.
    uncondition_rate: probability p_U that none is given.
    mask_range: (first, one past the last) of the slots that may be given; () is all.
  """

  max_observed: int = 4
  uncondition_rate: float = 0.0
  mask_range: Sequence[int] = ()

  def __post_init__(self):
    super().__post_init__()
    _check_probability("uncondition_rate", self.uncondition_rate)
    bounds = tuple(self.mask_range)
    inside = len(bounds) == 2 and 0 <= bounds[0] < bounds[1] <= self.num_frames
    if bounds and not inside:
      raise UserError(
        "config.task.mask_range: expected (first, one past the last) within 0 to "
        f"{self.num_frames}, found {bounds}"
      )
    slots = len(self._slots)
    if not 1 <= self.max_observed <= slots:
      raise UserError(
        f"config.task.max_observed: expected 1 to {slots}, the slots that may be "
        f"given, found {self.max_observed}"
      )
    if self.max_observed >= self.num_frames:
      raise UserError(
        f"config.task.max_observed: {self.max_observed} of {self.num_frames} frames "
        "given would leave no frame to score"
      )

  @property
  def _slots(self) -> range:
    return range(*(self.mask_range or (0, self.num_frames)))

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    clip = super().sample(rng, lengths)
    observed = np.zeros(self.num_frames, bool)
    if rng.random() >= self.uncondition_rate:
      count = rng.integers(1, self.max_observed + 1)
      observed[rng.choice(self._slots, count, replace=False)] = True
    return clip._replace(observed=observed, latent=~observed)


@dataclasses.dataclass(frozen=True)
class PastFuture(Task):
  """A clip of past, current and future frames, of which the current ones are latent.

      drop_past 0, no future               prediction
      drop_past 0, with future             interpolation
      drop_past > 0                        and unconditional generation
      drop_future > 0                      and prediction beside interpolation

  MCVD (Voleti et al. 2022) replaces a hidden side by zeros; here its frames are sampled
  and scored like the current ones, so that every slot of a window has a meaning.

  Attributes:
    num_past, num_current, num_future: frames of the three parts, in this order.
    drop_past: probability that the past is hidden.
    drop_future: probability that the future is hidden, drawn independently.
    sync: whether one draw hides both; the two probabilities must then be equal.
    stride: distance between neighbouring frames, in source frames.
    flip: whether to mirror half of the clips left-right.
  """

  num_past: int
  num_current: int
  num_future: int = 0
  drop_past: float = 0.0
  drop_future: float = 0.0
  sync: bool = False
  stride: int = 1
  flip: bool = False

  def __post_init__(self):
    for name, least in (("num_past", 0), ("num_current", 1), ("num_future", 0)):
      value = getattr(self, name)
      if value < least:
        raise UserError(f"config.task.{name}: expected >= {least}, found {value}")
    _check_probability("drop_past", self.drop_past)
    _check_probability("drop_future", self.drop_future)
    if self.sync and self.drop_past != self.drop_future:
      raise UserError(
        "config.task.sync: past and future are hidden together, but drop_past is "
        f"{self.drop_past} and drop_future {self.drop_future}"
      )
    if self.stride < 1:
      raise UserError(f"config.task.stride: expected >= 1, found {self.stride}")

  @property
  def num_frames(self) -> int:
    return self.num_past + self.num_current + self.num_future

  @property
  def min_given(self) -> int:
    return 0 if self.drop_past else self.num_past

  @property
  def _clip(self) -> Unconditional:
    return Unconditional(self.num_frames, self.stride, self.flip)

  @property
  def min_length(self) -> int:
    return self._clip.min_length

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    clip = self._clip.sample(rng, lengths)
    past, future = rng.random(2)
    if self.sync:
      future = past
    observed = np.zeros(self.num_frames, bool)
    observed[: self.num_past] = past >= self.drop_past
    observed[self.num_past + self.num_current :] = future >= self.drop_future
    return clip._replace(observed=observed, latent=~observed)


def _check_probability(name: str, value: float) -> None:
  """Raises UserError unless `config.task.NAME` is a probability."""
  if not 0.0 <= value <= 1.0:
    raise UserError(f"config.task.{name}: expected 0 to 1, found {value}")
