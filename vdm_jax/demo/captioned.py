"""Clips with captions: what was asked for, and whether it was made."""

import dataclasses

import numpy as np

from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import digits
from vdm_jax.evaluation import motion
from vdm_jax.metrics import jackknife

HELD_OUT, SEEN = "held out", "seen in training"


@dataclasses.dataclass(frozen=True)
class Asked:
  """The digit and direction that a caption asks for.

  Attributes:
    digit: class of the digit, 0 to 9.
    direction: number in `moving_digits.DIRECTIONS`.
  """

  digit: int
  direction: int

  @property
  def caption(self) -> str:
    numeral = moving_digits.NUMERALS[self.digit]
    article = "an" if numeral == "eight" else "a"
    return f"{article} {numeral} moving {moving_digits.words(self.direction)}"

  @property
  def held_out(self) -> bool:
    """Returns whether training has not seen this digit move in this direction."""
    return moving_digits.held_out(self.digit, self.direction)


def combinations(per_digit: int) -> list[Asked]:
  """Lists `per_digit` held-out directions of each digit, and as many others.

  Args:
    per_digit: 1 or 2, which is all that are held out.
  """
  chosen = []
  for digit in range(digits.NUM_CLASSES):
    # The held-out directions, then the one next to each.
    held = [way for way in range(8) if moving_digits.held_out(digit, way)][:per_digit]
    chosen += [Asked(digit, way) for way in held]
    chosen += [Asked(digit, (way + 1) % 8) for way in held]
  return chosen


def directions(clips: np.ndarray, first: int, last: int) -> np.ndarray:
  """Reads the direction of movement between two frames from the centre of light.

  Args:
    clips: uint8 [N, T, H, W, C].
    first, last: numbers of the frames.

  Returns:
    int [N], the nearest of `moving_digits.DIRECTIONS`; -1 if nothing moves by half a
    pixel or more, or nothing is visible.
  """
  centres = motion.centroids(clips[:, [first, last]])
  moved = centres[:, 1] - centres[:, 0]
  length = np.linalg.norm(moved, axis=-1)
  ways = np.array(moving_digits.DIRECTIONS, float)
  ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
  nearest = (np.nan_to_num(moved) @ ways.T).argmax(-1)
  return np.where(np.nan_to_num(length) >= 0.5, nearest, -1)


def rates(right: np.ndarray, held: np.ndarray) -> dict[str, dict[str, float]]:
  """Computes shares with errors, of held-out captions and of the others.

  Args:
    right: bool [N], whether the clip is right.
    held: bool [N], whether its caption is held out.
  """
  found = {}
  for name, chosen in ((HELD_OUT, held), (SEEN, ~held)):
    those = right[chosen]
    value, error = jackknife.estimate(lambda n, of=those: of[n].mean(), len(those))
    found[name] = {"value": float(value), "error": float(error), "clips": len(those)}
  return found
