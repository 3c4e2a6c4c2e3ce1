"""What a protocol of `vdm-jax eval` is.

A protocol is a frozen dataclass: its fields are everything that a published number
depends on, each with its default and a line of help, and become the flags of the
command. They are written beside the numbers.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from etils import epath

import vdm_jax
from vdm_jax import processes
from vdm_jax.errors import UserError

_GROUPS = 10  # Of the jackknife.


class Outcome(NamedTuple):
  """What a protocol found.

  Attributes:
    result: JSON-able; NaN where nothing could be measured.
    table: the same for people.
  """

  result: dict[str, Any]
  table: str


class EvaluationProtocol(Protocol):
  """See the module's text."""

  name: ClassVar[str]
  # Whether several processes can share the work.
  several: ClassVar[bool] = False

  def run(self, out: epath.Path) -> Outcome:
    """Measures; may leave pictures in the folder `out`.

    Raises:
      UserError: a setting is missing, or does not fit what it names.
    """
    ...


def setting(default: Any, help: str) -> Any:
  """A field of a protocol; a tuple of strings is a flag that may be repeated."""
  return dataclasses.field(default=default, metadata={"help": help})


def evaluate(protocol: EvaluationProtocol, out: epath.PathLike) -> Outcome:
  """Runs a protocol; leaves results.json and table.txt in `out`.

  Raises:
    UserError: as `run`, or `out` holds results already.
  """
  out = epath.Path(out)
  if (out / "results.json").exists():
    raise UserError(f"`out={out}`: holds results already; choose another folder")
  if jax.process_count() > 1 and not getattr(protocol, "several", False):
    raise UserError(
      f"protocol {protocol.name} runs in one process, found {jax.process_count()}"
    )
  processes.wait("out is free")  # Before the first one writes into it.
  outcome = protocol.run(out)
  if not processes.is_first():
    return outcome
  out.mkdir(parents=True, exist_ok=True)
  (out / "table.txt").write_text(outcome.table + "\n")
  # Last: a folder with it is complete.
  (out / "results.json").write_text(as_json({**describe(protocol), **outcome.result}))
  return outcome


def describe(protocol: EvaluationProtocol) -> dict[str, Any]:
  """Name, settings and version: what the numbers belong to."""
  return {
    "protocol": protocol.name,
    "settings": dataclasses.asdict(protocol),
    "vdm_jax": vdm_jax.__version__,
  }


def as_json(value: Any) -> str:
  """Strict JSON of dicts, lists and arrays; what is not finite becomes null."""

  def plain(value):
    if isinstance(value, Mapping):
      return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
      return plain(value.tolist())
    if isinstance(value, list | tuple):
      return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
      return None
    return value

  return json.dumps(plain(value), indent=2) + "\n"


def jackknife(
  statistic: Callable[[np.ndarray], float], count: int
) -> tuple[float, float]:
  """A statistic of `count` videos and its standard error.

  Videos are left out a group at a time, at most ten groups: frames of one video are
  not independent, videos are.

  Args:
    statistic: of the videos of these numbers, int [K].
    count: number of videos.

  Returns:
    The value of all videos, and its error; NaN where there is none.
  """
  everyone = np.arange(count)
  value = float(statistic(everyone))
  groups = np.array_split(everyone, min(_GROUPS, count))
  if len(groups) < 2:
    return value, math.nan
  left = np.array([statistic(np.setdiff1d(everyone, group)) for group in groups])
  spread = np.sum((left - left.mean()) ** 2)
  return value, float(np.sqrt((len(groups) - 1) / len(groups) * spread))


def table(rows: Iterable[Sequence[str]]) -> str:
  """Rows of cells as text, the header first; the first column to the left."""
  rows = [list(row) for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for first, *rest in rows:
    cells = [first.ljust(widths[0])]
    cells += [cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True)]
    lines.append("  ".join(cells).rstrip())
  rule = "-" * max(map(len, lines))
  return "\n".join([lines[0], rule, *lines[1:]])


def cell(value: float, error: float = math.nan, *, percent: bool = False) -> str:
  """A table's cell: the value, its standard error, as many digits as make sense."""
  if not math.isfinite(value):
    return "-"
  if percent:
    value, error = 100 * value, 100 * error
    places = 1 if abs(value) >= 1 else 2
  else:
    scale = error if math.isfinite(error) and error else abs(value) / 10
    places = 1 - math.floor(math.log10(scale)) if scale else 1
    places = min(max(places, 0), 4)
  text = f"{value:.{places}f}"
  if math.isfinite(error):
    text += f" ± {error:.{places}f}"
  return text + " %" * percent
