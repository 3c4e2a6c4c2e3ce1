"""Block extension, in windows that each overlap the one before."""

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

  Every window has the same length, so one compiled program serves all: the last window
  is moved back to end with the video and observes more frames. Frames that exist
  already are observed wherever they fall into a window.

  Frames far from any given frame are the least certain. With `keep = 2` only the first
  two new frames of a window are kept; the others are drafts, which the next windows
  sample again:

      window 0   O O L L . . . .
      window 1   O O O O L L . .          . padding

  Attributes:
    length: frames of the finished video.
    given: indices of frames that exist already.
    window: frames of a window.
    overlap: frames that a window shares with the one before; default half.
    keep: largest number of frames that a window adds; default all that are missing.
  """

  length: int
  given: tuple[int, ...] = ()
  window: int = 16
  overlap: int | None = None
  keep: int | None = None

  def __post_init__(self):
    if self.length < self.window:
      raise UserError(
        f"`length={self.length}`: shorter than the model's window of {self.window}"
      )
    if not 0 <= self._overlap < self.window:
      raise UserError(
        f"`overlap={self.overlap}`: expected 0 to {self.window - 1} for a window of "
        f"{self.window} frames"
      )
    if self.keep is not None and self.keep < 1:
      raise UserError(f"`keep={self.keep}`: expected >= 1")

  @property
  def _overlap(self) -> int:
    return self.window // 2 if self.overlap is None else self.overlap

  def start(self):
    return {"end": 0}

  def next(self, state, video=None):
    """Returns the next stage, see `plan.Plan`; all frames before the state exist."""
    del video
    end = state["end"]
    exists = np.zeros(self.length, bool)
    exists[list(self.given)] = True
    exists[:end] = True
    while not exists.all():
      start = max(0, min(end - self._overlap, self.length - self.window))
      slots = np.arange(start, start + self.window)
      missing = slots[~exists[slots]]
      if len(missing):
        break
      end = start + self.window
      exists[:end] = True
    else:
      return None
    added = missing[: self.keep]
    frames = Frames(
      index=slots.astype(np.int32)[None],
      observed=exists[slots][None],
      latent=np.isin(slots, added)[None],
      group=np.zeros((1, self.window), np.int32),
    )
    done = len(added) == len(missing)
    return frames, {"end": int(slots[-1] if done else added[-1]) + 1}
