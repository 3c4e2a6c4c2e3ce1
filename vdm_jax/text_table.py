"""Tables as text: cells with as many digits as mean something, columns in line."""

import math
from collections.abc import Iterable, Sequence


def table(rows: Iterable[Sequence[str]]) -> str:
  """Formats rows of cells as text, header first, with the first column left-aligned."""
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
  """Formats a value and its standard error with as many digits as are meaningful."""
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
