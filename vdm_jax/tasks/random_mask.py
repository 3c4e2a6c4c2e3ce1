"""RaMViD's task: random frames of a clip are given and the others are sampled."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.tasks.clips import Unconditional
from vdm_jax.tasks.task import Selection


def check_probability(name: str, value: float) -> None:
  """Raises UserError unless `config.task.NAME` is a probability."""
  if not 0.0 <= value <= 1.0:
    raise UserError(f"config.task.{name}: expected 0 to 1, found {value}")


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
    check_probability("uncondition_rate", self.uncondition_rate)
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
