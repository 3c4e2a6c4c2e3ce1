"""MCVD's task: past and future of a block are given or not (Voleti et al. 2022)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.tasks.clips import Unconditional
from vdm_jax.tasks.random_mask import check_probability
from vdm_jax.tasks.task import Selection, Task


@dataclasses.dataclass(frozen=True)
class PastFuture(Task):
  """A clip of past, current and future frames, of which the current ones are latent.

      drop_past 0, no future               prediction
      drop_past 0, with future             interpolation
      drop_past > 0                        and unconditional generation
      drop_future > 0                      and prediction beside interpolation

  MCVD replaces a hidden side by zeros; here its frames are sampled and scored like
  the current ones, so that every slot of a window has a meaning.

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
    check_probability("drop_past", self.drop_past)
    check_probability("drop_future", self.drop_future)
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
