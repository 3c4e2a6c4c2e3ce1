"""The protocol by which clips of one moving digit are judged, and its table.

Every set of clips is compared with one reference: real clips of the test split, whose
digits neither the diffusion model nor the classifier has seen. Real clips of other
digits are measured, too, so that each number stands beside what a perfect model would
get. Errors are standard errors by the delete-one-group jackknife over whole clips, as
frames of one clip are not independent.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from vdm_jax import text_table
from vdm_jax.data import source as sources
from vdm_jax.demo import digits
from vdm_jax.errors import UserError
from vdm_jax.evaluation import motion
from vdm_jax.metrics import frechet, jackknife

# A frame with less light than this share of the faintest real digits has no digit.
_EMPTY = 0.5


@dataclasses.dataclass(frozen=True)
class Clips:
  """Clips, and the digit that each should show.

  Attributes:
    videos: uint8 [N, T, H, W, C].
    labels: digits, int [N].
  """

  videos: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)


def real_clips(
  source: sources.VideoSource, num_frames: int, stride: int = 1, per_class: int = 0
) -> Clips:
  """Reads the first frames of a split's clips, with digits in turn, equally often.

  Args:
    source: the split.
    num_frames: frames T per clip.
    stride: distance between neighbouring frames, in source frames.
    per_class: clips of each digit; 0, or more than exist, takes as many as possible.

  Raises:
    UserError: the split has no such clip of some digit.
  """
  frames = np.arange(num_frames) * stride
  labels = np.asarray(source.labels)
  fitting = source.lengths > frames[-1]
  by_class = [
    np.flatnonzero((labels == digit) & fitting) for digit in range(digits.NUM_CLASSES)
  ]
  count = min(len(members) for members in by_class)
  if not count:
    raise UserError(
      f"{source.full_name} {source.split}: expected clips of {frames[-1] + 1} frames "
      f"or more of every digit, found {[len(members) for members in by_class]}"
    )
  if per_class:
    count = min(count, per_class)
  chosen = np.stack([members[:count] for members in by_class], axis=1).ravel()
  found = source.read_many([(int(video), frames) for video in chosen])
  return Clips(np.stack([clip["frames"] for clip in found]), labels[chosen])


@dataclasses.dataclass(frozen=True)
class Measured:
  """Measurements of a set of clips, clip by clip.

  Attributes:
    asked: int [N], the digit that each should show.
    logits: logits of the classifier, [N, T, 10].
    features: features of the classifier, [N, T, D].
    displacement: movement of the centroid, [N, T - 1, 2], in pixels; may be NaN.
    change: [N, T - 1], see `motion.Shift`; may be NaN.
    mass: [N, T], total intensity.
  """

  asked: np.ndarray
  logits: np.ndarray
  features: np.ndarray
  displacement: np.ndarray
  change: np.ndarray
  mass: np.ndarray

  @classmethod
  def of(cls, clips: Clips, reader: digits.DigitReader, limit: int) -> "Measured":
    """Measures clips, with shifts registered up to `limit` pixels."""
    logits, features = reader(clips.videos)
    return cls(
      asked=np.asarray(clips.labels),
      logits=logits,
      features=features,
      displacement=motion.displacements(clips.videos),
      change=motion.best_shift(clips.videos, limit).change,
      mass=motion.mass(clips.videos),
    )

  def take(self, clips: np.ndarray) -> "Measured":
    """Selects the clips of these numbers."""
    fields = dataclasses.fields(self)
    return Measured(
      **{field.name: getattr(self, field.name)[clips] for field in fields}
    )

  def __len__(self) -> int:
    return len(self.asked)

  @functools.cached_property
  def moments(self) -> frechet.Moments:
    return frechet.Moments.of(self.features)

  @property
  def speed(self) -> np.ndarray:
    """Returns all displacements that could be measured, [K], in pixels per frame."""
    speed = np.linalg.norm(self.displacement, axis=-1).ravel()
    return speed[np.isfinite(speed)]


Statistic = Callable[[Measured, Measured], float]


def _frechet(clips: Measured, reference: Measured) -> float:
  return frechet.distance(clips.moments, reference.moments)


def _asked_frames(clips: Measured, reference: Measured) -> float:
  return float(np.mean(clips.logits.argmax(-1) == clips.asked[:, None]))


def _asked_clips(clips: Measured, reference: Measured) -> float:
  return float(np.mean(digits.most_likely(clips.logits) == clips.asked))


def _same_digit(clips: Measured, reference: Measured) -> float:
  read = clips.logits.argmax(-1)
  return float(np.mean(read[:, 1:] == read[:, :-1]))


def _change(clips: Measured, reference: Measured) -> float:
  return _mean(clips.change)


def _speed(clips: Measured, reference: Measured) -> float:
  return _mean(clips.speed)


def _speed_distance(clips: Measured, reference: Measured) -> float:
  if not len(clips.speed):
    return float("nan")
  return float(scipy.stats.wasserstein_distance(clips.speed, reference.speed))


def _turn(clips: Measured, reference: Measured) -> float:
  return _mean(np.linalg.norm(np.diff(clips.displacement, axis=1), axis=-1))


def _jumps(clips: Measured, reference: Measured) -> float:
  if not len(clips.speed):
    return float("nan")
  return float(np.mean(clips.speed > reference.speed.max() + 0.5))


def _empty(clips: Measured, reference: Measured) -> float:
  faintest = np.quantile(reference.mass, 0.01)
  return float(np.mean(clips.mass < _EMPTY * faintest))


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    key: name in JSON.
    title: title in the table.
    statistic: (clips, reference) -> value.
    unit: '' for a number, '%' for a share.
  """

  key: str
  title: str
  statistic: Statistic
  unit: str = ""


ROWS = (
  Row("frechet", "Fréchet distance of frames to real test frames", _frechet),
  Row("asked_frames", "digit asked for is read, of frames", _asked_frames, "%"),
  Row("asked_clips", "digit asked for is read, of clips", _asked_clips, "%"),
  Row("same_digit", "next frame reads as the same digit", _same_digit, "%"),
  Row("change", "change of shape per frame (0 rigid, 1 all)", _change),
  Row("speed", "mean speed, pixels per frame", _speed),
  Row("speed_distance", "speeds: Wasserstein-1 to real test", _speed_distance),
  Row("turn", "mean change of velocity per frame, pixels", _turn),
  Row("jumps", "steps faster than any real one", _jumps, "%"),
  Row("empty", "frames without a digit", _empty, "%"),
)


def evaluate(
  sets: Mapping[str, Clips], reference: Clips, reader: digits.DigitReader
) -> dict[str, Any]:
  """Measures sets of clips against a reference.

  Args:
    sets: sets of at least 10 clips, by the heading of their column.
    reference: held-out real clips.
    reader: the classifier.

  Returns:
    `reference` and `sets[name]`, JSON-serialisable, each with the number of `clips`
    and, for each key of `ROWS`, {"value", "error"}; null if it could not be measured.
  """
  # Shifts are registered up to twice those of real digits, to allow for jumps.
  farthest = np.nanmax(np.abs(motion.displacements(reference.videos)))
  limit = max(2, int(np.ceil(2 * farthest)))
  measured = Measured.of(reference, reader, limit)
  result = {"reference": {"clips": len(reference)}, "sets": {}}
  for name, clips in sets.items():
    mine = Measured.of(clips, reader, limit)
    result["sets"][name] = {"clips": len(clips)}
    for row in ROWS:
      value, error = jackknife.estimate(
        lambda chosen, of=row.statistic, mine=mine: of(mine.take(chosen), measured),
        len(clips),
      )
      known = np.isfinite([value, error]) & np.isfinite(value)
      result["sets"][name][row.key] = {
        "value": value if known[0] else None, "error": error if known[1] else None
      }  # fmt: skip
  return result


def table(result: Mapping[str, Any]) -> str:
  """Formats the result of `evaluate` as text, with one column per set."""
  return text_table.table(cells(result))


def cells(result: Mapping[str, Any]) -> list[list[str]]:
  """Lists the table's cells, row by row, header first."""
  sets = result["sets"]
  counts = [f"{values['clips']}" for values in sets.values()]
  rows = [["", *sets], ["clips", *counts]]
  for row in ROWS:
    rows.append([row.title, *(_cell(values[row.key], row) for values in sets.values())])
  return rows


def _cell(measured: Mapping[str, float | None], row: Row) -> str:
  value, error = measured["value"], measured["error"]
  if value is None:
    return "-"
  if row.unit == "%":
    text, spread = f"{100 * value:.1f}", "" if error is None else f"{100 * error:.1f}"
  else:
    # As many digits as are meaningful by the error, at most four.
    places = min(3, 3 - _exponent(value), 1 - _exponent(error or 1e-3))
    places = max(places, 0)
    text, spread = f"{value:.{places}f}", "" if error is None else f"{error:.{places}f}"
  spread = f" ± {spread}" if spread else ""
  return f"{text}{spread}{' ' * bool(row.unit)}{row.unit}"


def _exponent(value: float) -> int:
  """Returns the exponent of the leading digit: 0 for 5.1, 2 for 398, -2 for 0.04."""
  return int(np.floor(np.log10(max(abs(value), 1e-3)))) if value else 0


def _mean(values: Sequence[float] | np.ndarray) -> float:
  values = np.asarray(values)
  values = values[np.isfinite(values)]
  return float(values.mean()) if len(values) else float("nan")
