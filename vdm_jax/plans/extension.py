"""RaMViD's plans: one window with any frames given, and extension beyond it.

The network knows no positions, so the slots of a window are neighbouring frames, in
order.
"""

import dataclasses

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames


def _consecutive(first: int, exists: np.ndarray) -> Frames:
  """Makes neighbouring frames from `first` on; those that exist are observed."""
  observed = exists[None]
  return Frames(
    index=np.arange(first, first + len(exists), dtype=np.int32)[None],
    observed=observed,
    latent=~observed,
    group=np.zeros(observed.shape, np.int32),
  )


def _existing(length: int, given: tuple[int, ...]) -> np.ndarray:
  exists = np.zeros(length, bool)
  exists[list(given)] = True
  return exists


@dataclasses.dataclass(frozen=True)
class Fill:
  """Samples the whole video in one window, whichever frames are given.

      given 0 .. k-1            prediction
      given first and last      infilling
      given every n-th          temporal up-sampling
      none given                unconditional

  Attributes:
    length: frames of the finished video, and of the window.
    given: indices of frames that exist already.
    window: frames that the model was trained on; unused.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 16

  def start(self):
    return {"done": False}

  def next(self, state, video=None):
    """Returns the only stage, see `plan.Plan`."""
    del video
    if state["done"] or len(self.given) == self.length:
      return None
    return _consecutive(0, _existing(self.length, self.given)), {"done": True}


@dataclasses.dataclass(frozen=True)
class Extension:
  """Extends videos to any length by the authors' rules (`long_sampling.py`).

      given 0, prediction_step 4, max_cond 3:
      window 0   O L L L L
      window 1       O O O L L L L            O observed, L latent

  The first window begins with the video, however many frames are given there; every
  other one begins `max_cond` frames before the first missing frame (or with the video,
  if fewer exist). A window extends until `prediction_step` of its frames are missing,
  so windows differ in length. Frames given further on are observed where they are, and
  so are up to `max_cond` that follow the last missing one. No window extends beyond the
  video.

  Attributes:
    length: frames of the finished video.
    given: indices of frames that exist already.
    window: frames that the model was trained on; unused.
    prediction_step: frames that a window samples.
    max_cond: frames before the first missing one that every window but the first
      observes.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 16
  prediction_step: int = 10
  max_cond: int = 5

  def __post_init__(self):
    for name in ("prediction_step", "max_cond"):
      if getattr(self, name) < 1:
        raise UserError(f"`{name}={getattr(self, name)}`: expected at least 1")

  def start(self):
    return {"missing": 0}

  def next(self, state, video=None):
    """Returns the next stage, see `plan.Plan`; no frame before the state is missing."""
    del video
    exists = _existing(self.length, self.given)
    exists[: state["missing"]] = True
    missing = np.flatnonzero(~exists)
    if not len(missing):
      return None
    first = max(int(missing[0]) - self.max_cond, 0) if state["missing"] else 0
    end = int(missing[: self.prediction_step][-1]) + 1
    after = exists[end : end + self.max_cond]
    end += len(after) if after.all() else int(np.argmin(after))
    return _consecutive(first, exists[first:end]), {"missing": end}
