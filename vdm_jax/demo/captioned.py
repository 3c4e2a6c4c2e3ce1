"""Clips that a caption describes: what was asked for, and whether it came out."""

import dataclasses

import numpy as np

from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import digits
from vdm_jax.evaluation import motion, protocol

HELD_OUT, SEEN = "held out", "seen in training"


@dataclasses.dataclass(frozen=True)
class Asked:
  """What one caption asks for.

  Attributes:
    digit: 0 to 9.
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
    """Whether training has not seen this digit go this way."""
    return moving_digits.held_out(self.digit, self.direction)


def combinations(per_digit: int) -> list[Asked]:
  """Lists `per_digit` ways of each digit that are held out, and as many that are not.

  Args:
    per_digit: 1 or 2, which is all that are held out.
  """
  chosen = []
  for digit in range(digits.NUM_CLASSES):
    # Each held-out way beside the one next to it.
    held = [way for way in range(8) if moving_digits.held_out(digit, way)][:per_digit]
    chosen += [Asked(digit, way) for way in held]
    chosen += [Asked(digit, (way + 1) % 8) for way in held]
  return chosen


def directions(clips: np.ndarray, first: int, last: int) -> np.ndarray:
  """Reads the direction between two frames off the centre of light.

  Args:
    clips: uint8 [N, T, H, W, C].
    first, last: numbers of the frames.

  Returns:
    int [N], the nearest of `moving_digits.DIRECTIONS`; -1 where nothing moves by half a
    pixel or more, or nothing is to be seen.
  """
  centres = motion.centroids(clips[:, [first, last]])
  moved = centres[:, 1] - centres[:, 0]
  length = np.linalg.norm(moved, axis=-1)
  ways = np.array(moving_digits.DIRECTIONS, float)
  ways /= np.linalg.norm(ways, axis=-1, keepdims=True)
  nearest = (np.nan_to_num(moved) @ ways.T).argmax(-1)
  return np.where(np.nan_to_num(length) >= 0.5, nearest, -1)


def rates(right: np.ndarray, held: np.ndarray) -> dict[str, dict[str, float]]:
  """Shares with their errors, of the captions that are held out and of the others.

  Args:
    right: bool [N].
    held: bool [N].
  """
  found = {}
  for name, chosen in ((HELD_OUT, held), (SEEN, ~held)):
    those = right[chosen]
    value, error = protocol.jackknife(lambda n, of=those: of[n].mean(), len(those))
    found[name] = {"value": float(value), "error": float(error), "clips": len(those)}
  return found
