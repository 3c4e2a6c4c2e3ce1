"""Roll-out, frame by frame, each given all frames before it."""

import dataclasses

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames


@dataclasses.dataclass(frozen=True)
class Rollout:
  """RVD's plan (Yang et al. 2022, section 3), for networks with a recurrent state.

      window 0   O O O O L
      window 1           O L
      window 2             O L        O observed, L latent

  A window after the first observes one frame: the network's state holds what came
  before.

  Attributes:
    length: frames of the finished video.
    given: indices of frames that exist already, which must be the first ones.
    window: unused, as a roll-out can have any length.
    context: smallest number of frames that must be given.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 0
  context: int = 1

  def __post_init__(self):
    if sorted(self.given) != list(range(len(self.given))):
      raise UserError(
        f"roll-out: expected the first frames of the video, found {sorted(self.given)}"
      )
    if len(self.given) < self.context:
      raise UserError(
        f"roll-out: this model predicts from at least {self.context} frames, found "
        f"{len(self.given)} given"
      )

  def start(self):
    return {"done": 0}

  def next(self, state, video=None):
    """Returns the next stage, see `plan.Plan`; the state counts existing frames."""
    del video
    first, done = state["done"] - 1, state["done"]
    if not done:
      first, done = 0, len(self.given)
    if done >= self.length:
      return None
    slots = np.arange(first, done + 1, dtype=np.int32)
    latent = slots == done
    frames = Frames(
      index=slots[None],
      observed=~latent[None],
      latent=latent[None],
      group=np.zeros((1, len(slots)), np.int32),
    )
    return frames, {"done": done + 1}
