"""FDM's sampling schemes (section 4 of the paper): their base class, and two of them.

A scheme samples `step_size` frames (S) per stage, in windows of at most `max_frames`
(K): K - S frames are observed. With nothing given, the first window observes nothing,
and its K frames then take the place of given ones.
"""

import dataclasses
from typing import Any

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.plans import plan as plan_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scheme:
  """Base class of all schemes. The state holds the existing frames, sorted.

  Attributes:
    length: frames L of the finished video.
    given: frames that exist already, which are the first ones.
    window: frames that the model was trained with.
    max_frames: largest number K of frames in a stage; default `window`.
    step_size: number S of frames that a stage samples; default half of K.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 20
  max_frames: int | None = None
  step_size: int | None = None
  name = "scheme"
  # Smallest S, smallest K - S and smallest K that the scheme allows.
  least_step, least_room, least_frames = 1, 1, 2

  def __post_init__(self):
    if self.max_frames is None:
      object.__setattr__(self, "max_frames", self.window)
    if self.step_size is None:
      step_size = max(self.max_frames // 2, self.least_step)
      object.__setattr__(self, "step_size", step_size)
    object.__setattr__(self, "given", tuple(sorted(self.given)))
    if self.given != tuple(range(len(self.given))):
      raise UserError(
        f"plan {self.name}: expected the first frames of the video as given ones, "
        f"found {list(self.given)[:10]}"
      )
    if self.max_frames < self.least_frames:
      raise UserError(
        f"plan {self.name}: `max_frames={self.max_frames}`: expected "
        f"{self.least_frames} or more"
      )
    low, high = self.least_step, self.max_frames - self.least_room
    if not low <= self.step_size <= high:
      hint = f"; `step_size={self.step_size}` needs {self.step_size + self.least_room}"
      raise UserError(
        f"plan {self.name}: `step_size={self.step_size}`: expected {low} to {high} "
        f"with `max_frames={self.max_frames}`{hint if self.step_size > high else ''}"
      )

  def first_window(self) -> list[int]:
    """Lists the frames to sample if none are given: K, or all of a shorter video."""
    return list(range(min(self.max_frames, self.length)))

  @property
  def anchors(self) -> list[int]:
    """Returns the given frames or, without any, those of the first window."""
    return list(self.given) or self.first_window()

  def start(self) -> plan_lib.State:
    return {"exists": list(self.given)}

  def next(self, state, video=None):
    """Returns the next stage, see `plan.Plan`."""
    exists = state["exists"]
    if len(exists) == self.length:
      return None
    if not exists:
      observed, latent, more = [[]], self.first_window(), {}
    else:
      observed, latent, more = self.stage(state, video)
    after = {**state, **more, "exists": sorted([*exists, *latent])}
    return plan_lib.stage(observed, latent), after

  def stage(
    self, state: plan_lib.State, video: np.ndarray | None
  ) -> tuple[list[list[int]], list[int], dict[str, Any]]:
    """Chooses observed frames (per video or one row), latent ones and further state."""
    raise NotImplementedError

  def following(self, exists: list[int]) -> list[int]:
    """Lists the next S frames of a video whose first ones exist."""
    first = len(exists)
    return list(range(first, min(first + self.step_size, self.length)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Autoreg(Scheme):
  """Samples the next S frames, given the K - S before them."""

  name = "autoreg"

  def stage(self, state, video):
    del video
    exists = state["exists"]
    observed = exists[-(self.max_frames - self.step_size) :]
    return [observed], self.following(exists), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRange(Scheme):
  """Samples the next S frames, given recent frames and those given at the start.

  Half of the K - S observed frames (rounded down) are the last ones, the others the
  latest of the frames that were given at the start.
  """

  name = "long-range"
  least_room, least_frames = 2, 3

  def stage(self, state, video):
    del video
    exists = state["exists"]
    room = self.max_frames - self.step_size
    observed = exists[-(room // 2) :]
    earlier = [frame for frame in reversed(self.anchors) if frame not in observed]
    observed = observed + earlier[: room - len(observed)]
    return [sorted(observed)], self.following(exists), {}
