"""RVD's task: every frame is scored given the frames before it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.tasks.clips import Unconditional
from vdm_jax.tasks.task import Selection, Task


@dataclasses.dataclass(frozen=True)
class NextFrame(Task):
  """A random clip whose frames are all given, and scored except for the first ones.

  Frames from `num_context` on are observed and latent: each is scored given the true
  frames before it ("teacher forcing").

  Attributes:
    num_frames: frames T of a clip.
    num_context: frames at the start that are only given (the authors use 2).
    stride: distance between neighbouring frames, in source frames.
    flip: whether to mirror half of the clips left-right.
  """

  num_frames: int
  num_context: int = 2
  stride: int = 1
  flip: bool = False

  def __post_init__(self):
    if self.num_context < 1:
      raise UserError(
        f"config.task.num_context: expected >= 1, found {self.num_context}"
      )
    if self.num_frames <= self.num_context:
      raise UserError(
        f"config.task.num_frames: {self.num_frames} frames leave none to score after "
        f"the {self.num_context} of config.task.num_context"
      )
    Unconditional(self.num_frames, self.stride)  # Raises for a stride below 1.

  @property
  def min_given(self) -> int:
    return self.num_context

  @property
  def _clip(self) -> Unconditional:
    return Unconditional(self.num_frames, self.stride, self.flip)

  @property
  def min_length(self) -> int:
    return self._clip.min_length

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    clip = self._clip.sample(rng, lengths)
    return clip._replace(
      observed=np.ones(self.num_frames, bool),
      latent=np.arange(self.num_frames) >= self.num_context,
    )
