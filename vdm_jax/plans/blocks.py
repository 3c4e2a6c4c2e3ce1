"""Block extension: window after window, each overlapping the one before."""

import dataclasses

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames


@dataclasses.dataclass(frozen=True)
class Blocks:
  """VDM's block-autoregressive extension (section 3.1), from any given frames.

      window 0   L L L L L L L L
      window 1           O O O O L L L L
      window 2                   O O O O L L L L        O observed, L latent

  Every window has the same length, so one compiled program serves all: the last
  one is moved back to end with the video and observes more frames. Frames that
  exist already are observed wherever a window meets them.

  Attributes:
    length: frames of the finished video.
    given: indices of frames that exist already.
    window: frames of a window.
    overlap: frames that a window shares with the one before; default half.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 16
  overlap: int | None = None

  def __post_init__(self):
    if self.length < self.window:
      raise UserError(
        f"--length={self.length}: shorter than the model's window of {self.window}"
      )
    if not 0 <= self._overlap < self.window:
      raise UserError(
        f"--overlap={self.overlap}: expected 0 to {self.window - 1} for a window of "
        f"{self.window} frames"
      )

  @property
  def _overlap(self) -> int:
    return self.window // 2 if self.overlap is None else self.overlap

  def start(self):
    return {"first": 0}

  def next(self, state, video=None):
    """See `plan.Plan`; the state is the first frame of the next window."""
    del video
    exists = np.zeros(self.length, bool)
    exists[list(self.given)] = True
    first = state["first"]
    if first:  # All windows before this one are done.
      exists[: first + self._overlap] = True
    while True:
      if first >= self.length or exists.all():
        return None
      start = min(first, self.length - self.window)
      slots = np.arange(start, start + self.window)
      first = first + self.window - self._overlap
      if not exists[slots].all():
        break
      exists[slots] = True
    observed = exists[slots]
    frames = Frames(
      index=slots.astype(np.int32)[None],
      observed=observed[None],
      latent=~observed[None],
      group=np.zeros((1, self.window), np.int32),
    )
    return frames, {"first": first}
