"""FDM's hierarchical schemes, which sample frames far apart, then those in between."""

import dataclasses

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.plans.scheme import Scheme


@dataclasses.dataclass(frozen=True)
class Hierarchy(Scheme):
  """The scheme hierarchy-N, with N levels that each fill the gaps of the one before.

  Level 1 spreads S frames evenly over the whole video. Level l walks through it in
  strides of ((L - given) / (S - 1)) ^ ((N - l) / (N - 1)) frames, 1 at the last level.
  A stage observes the existing frames between its latent ones; of its other K - S
  places up to half are for frames after them and the rest for frames before them (at
  level 1: evenly over the given frames). If fewer than two places are left, the stage
  samples fewer than S frames.

  Attributes:
    levels: number of levels N.
  """

  levels: int
  least_step, least_room, least_frames = 2, 0, 4

  @property
  def name(self) -> str:
    return f"hierarchy-{self.levels}"

  def first_window(self) -> list[int]:
    """Spreads K frames evenly over the video."""
    return _spread(0, self.length - 1, min(self.max_frames, self.length))

  def start(self):
    return {**super().start(), "level": 1, "last": 0}

  def stage(self, state, video):
    del video
    choice = self.choose(state)
    exists, latent, between = state["exists"], choice.latent, choice.between
    behind = [frame for frame in exists if frame > latent[-1]]
    observed = between + behind[: (choice.room - len(between)) // 2]
    left = choice.room - len(observed)
    if choice.level == 1:
      observed += _spread(0, self.anchors[-1] + 0.999, left)
    else:
      before = [frame for frame in exists if frame < latent[0]]
      observed += before[::-1][:left]
    return [observed], latent, {"level": choice.level, "last": latent[-1]}

  def choose(self, state) -> "Choice":
    """Chooses what a stage samples.

    Raises:
      UserError: max_frames is too small for the frames that it must observe.
    """
    if choice := self._choose(state):
      return choice
    for max_frames in range(self.max_frames + 1, self.length + self.step_size + 1):
      larger = dataclasses.replace(self, max_frames=max_frames)
      if larger.works():
        break
    raise UserError(
      f"plan {self.name}: `max_frames={self.max_frames}` is too small for a video of "
      f"{self.length} frames with `step_size={self.step_size}`; the smallest that "
      f"works is {max_frames}"
    )

  def works(self) -> bool:
    """Returns whether every stage has room for the frames that it must observe."""
    state = {**self.start(), "exists": self.anchors}
    while len(state["exists"]) < self.length:
      if (choice := self._choose(state)) is None:
        return False
      state = {
        "exists": sorted([*state["exists"], *choice.latent]),
        "level": choice.level,
        "last": choice.latent[-1],
      }
    return True

  def _choose(self, state) -> "Choice | None":
    """Chooses as `choose` does, or returns None if that is impossible."""
    exists, level, last = state["exists"], state["level"], state["last"]
    done = np.zeros(self.length, bool)
    done[exists] = True
    missing = np.flatnonzero(~done)
    for step_size in range(self.step_size, 1, -1):
      if len(exists) == len(self.anchors):
        level, last = 1, self.anchors[-1]
      at = last + self._stride(level, step_size)
      while at > missing[-1]:
        level, last = level + 1, 0
        at = missing[0] - 1 + self._stride(level, step_size)
      if level == 1:
        first = self.anchors[-1] + 1
        latent = _spread(first, self.length - 0.001, step_size)
      else:
        latent = self._walk(done, int(at), self._stride(level, step_size), step_size)
      between = [frame for frame in exists if latent[0] < frame < latent[-1]]
      room = self.max_frames - step_size
      if room - len(between) >= 2:
        return Choice(latent, between, room, level)
      # The attempt with fewer frames continues at the level that this one reached.
    return None

  def _walk(self, done, at: int, stride: int, count: int) -> list[int]:
    """Lists up to `count` missing frames from `at` on, at least `stride` apart."""
    latent = []
    while len(latent) < count and at < self.length:
      if done[at]:
        at += 1
      else:
        latent.append(at)
        at += stride
    return latent

  def _stride(self, level: int, step_size: int) -> int:
    ratio = (self.length - len(self.anchors)) / (step_size - 1)
    # A stride below one frame leaves nothing between neighbours to skip.
    return max(1, int(ratio ** ((self.levels - level) / (self.levels - 1))))


@dataclasses.dataclass(frozen=True)
class Choice:
  """The choice of what a stage samples.

  Attributes:
    latent: frames that it samples, increasing.
    between: existing frames between them, increasing.
    room: number of frames that it may observe.
    level: level of the hierarchy.
  """

  latent: list[int]
  between: list[int]
  room: int
  level: int


def _spread(first: float, last: float, count: int) -> list[int]:
  """Spreads `count` frames evenly over [first, last], or fewer if it has fewer."""
  frames = np.linspace(first, last, count).astype(int)  # Truncates, in float64.
  return list(dict.fromkeys(frames.tolist()))
