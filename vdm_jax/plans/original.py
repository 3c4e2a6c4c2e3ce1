"""The sampling modes of FDM's older repository that the newer one left out.

They are rows of the paper's tables. `mixed-autoreg-independent` is the old name of
`long-range`.
"""

import dataclasses

from vdm_jax.plans.scheme import Scheme

# Spacing of the frames that modes after Ho et al. 2022 (`google`) sample first.
_STRIDE = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Independent(Scheme):
  """Samples the next S frames, given only the last K - S frames given at the start."""

  name = "independent"

  def stage(self, state, video):
    del video
    observed = self.anchors[-(self.max_frames - self.step_size) :]
    return [observed], self.following(state["exists"]), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReallyIndependent(Scheme):
  """Samples the next K frames, given nothing: the parts of a video are unrelated."""

  name = "really-independent"

  def stage(self, state, video):
    del video
    first = len(state["exists"])
    return [[]], list(range(first, min(first + self.max_frames, self.length))), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExponentialPast(Scheme):
  """Samples the next S frames, given those 1, 2, 4, ... before and the nearest others.

  Distances d are used as long as 2 d frames exist, as in the authors' code.
  """

  name = "exp-past"

  def stage(self, state, video):
    del video
    exists = state["exists"]
    now, room = len(exists), self.max_frames - self.step_size
    distance, observed = 1, []
    while 2 * distance <= now and len(observed) < room:
      observed.append(now - distance)
      distance *= 2
    nearest = [frame for frame in reversed(exists) if frame not in observed]
    observed += nearest[: room - len(observed)]
    return [sorted(observed)], self.following(exists), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneBefore(Scheme):
  """Samples the next S frames, given the one before them."""

  name = "ho-et-al-for-vis"

  def stage(self, state, video):
    del video
    exists = state["exists"]
    return [exists[-1:]], self.following(exists), {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeysFirst(Scheme):
  """Samples every fourth frame, S at a time, given those before; then the others.

  The keys are the last given frame and every fourth one before and after it. Each stage
  fills as many gaps between keys as fit, with fewer than K frames in all. The last
  stage samples the frames after the last key.
  """

  name = "like-google"
  # A gap and its two keys are five frames, and `fill` is one more.
  least_frames = _STRIDE + 2

  @property
  def keys(self) -> list[int]:
    return list(range((len(self.anchors) - 1) % _STRIDE, self.length, _STRIDE))

  @property
  def fill(self) -> int:
    """Returns one more than the largest number of frames of a stage that fills gaps."""
    return self.max_frames

  def stage(self, state, video):
    del video
    exists = set(state["exists"])
    missing = [key for key in self.keys if key not in exists]
    if missing:
      latent = missing[: self.step_size]
      there = [key for key in self.keys if key in exists]
      return [there[-(self.max_frames - len(latent)) :]], latent, {}
    first = next(f for f in range(self.length) if f not in exists)
    start = max(key for key in self.keys if key < first)
    observed, total = [start], 1
    while total + _STRIDE < self.fill and observed[-1] + _STRIDE < self.length:
      observed.append(observed[-1] + _STRIDE)
      total += _STRIDE
    end = observed[-1] if len(observed) > 1 else self.length
    latent = [f for f in range(start, end) if f not in exists]
    return [observed], latent, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Google(KeysFirst):
  """`KeysFirst` with Ho et al.'s windows: 16 frames, 8 of them new; 9 to fill gaps."""

  name = "google"

  def __post_init__(self):
    # Overrides what was asked for, as in the authors' code.
    object.__setattr__(self, "max_frames", 16)
    object.__setattr__(self, "step_size", 8)
    super().__post_init__()

  @property
  def fill(self) -> int:
    return 10
