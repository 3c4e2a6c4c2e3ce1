"""Rules for the frames that a model can take as one window."""

import dataclasses
from typing import Protocol

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames


class Windows(Protocol):
  """A rule for the frames of a window.

  Attributes:
    recurrent: whether a window is read from where the one before stopped, with a state
      that holds what was read, so that a video is a roll-out.
  """

  recurrent: bool = False

  def check(self, frames: Frames, before: Frames | None) -> None:
    """Checks that a model can take a stage of a plan as its window.

    Args:
      frames: the stage.
      before: the stage before it, if there is one.

    Raises:
      UserError: the model cannot take it.
    """
    ...


@dataclasses.dataclass(frozen=True)
class AnyFrames(Windows):
  """Any frames, in any order."""

  def check(self, frames, before):
    pass


@dataclasses.dataclass(frozen=True)
class Consecutive(Windows):
  """Frames that follow each other, in order."""

  def check(self, frames, before):
    for row in np.asarray(frames.index).tolist():
      if row != list(range(row[0], row[0] + len(row))):
        raise UserError(
          f"plan: a stage holds frames {row}; the windows of this model are "
          "consecutive frames, in order (a plan of pairs lists the observed ones first)"
        )


@dataclasses.dataclass(frozen=True)
class Recurrent(Consecutive):
  """Frames from where the window before stopped reading on; the last one is latent."""

  recurrent = True

  def check(self, frames, before):
    super().check(frames, before)
    latent, observed = np.asarray(frames.latent), np.asarray(frames.observed)
    if not (observed[:, :-1].all() and latent[:, -1].all()) or latent[:, :-1].any():
      raise UserError(
        "plan: this model reads a window's frames and samples its last one; a stage "
        f"samples {np.asarray(frames.index)[latent].tolist()}"
      )
    first = int(frames.index[0, 0])
    expected = 0 if before is None else int(before.index[0, -1])
    if first != expected:
      raise UserError(
        f"plan: a stage begins at frame {first}; this model is recurrent and must go "
        f"on with frame {expected}"
      )
