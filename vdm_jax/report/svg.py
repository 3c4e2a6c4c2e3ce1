"""Line charts as SVG with the page's colours and a read-out by keyboard."""

import html
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vdm_jax.report import document

_WIDTH, _HEIGHT = 640, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 40
_MOST_POINTS = 400  # Largest number of points per line; more exceed the pixels.
_MOST_ROWS = 24  # Largest number of rows of the chart's table.

STYLE = """
.charts { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
figure.chart { margin: 0; min-width: 0; }
figure.chart > figcaption { color: var(--ink); font-weight: 600; }
.plot svg { display: block; width: 100%; height: auto; }
.plot text { font: 13px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.faint { stroke-width: 1; opacity: .45; }
.dashed { stroke-dasharray: 7 4; }
.cursor { stroke: var(--ink); stroke-width: 1; visibility: hidden; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 1.1rem;
  padding: 0; margin: .2rem 0; font-size: .85rem; }
.legend svg { width: 1.8rem; height: .8rem; vertical-align: middle; }
.read { display: block; min-height: 1.4em; margin-top: .3rem;
  font-size: .85rem; color: var(--soft); font-variant-numeric: tabular-nums; }
""" + "".join(
  f".s{i} {{ stroke: var(--s{i}); }} .dot.s{i} {{ fill: var(--s{i}); }}\n"
  for i in range(8)
)


class Line(NamedTuple):
  """A line of a chart.

  Attributes:
    name: name in the legend.
    points: rows (step, value), float64 [N, 2], by step; non-finite values are left out.
    colour: number of a colour of the page, 0 to 7.
    faint: whether to draw it thin, behind the others.
    dashed: whether to dash it, to tell it from a line of the same colour.
    dots: whether to draw a dot on each point.
  """

  name: str
  points: np.ndarray
  colour: int = 0
  faint: bool = False
  dashed: bool = False
  dots: bool = False


def chart(key: str, title: str, lines: Sequence[Line], *, from_zero=False) -> str:
  """Draws a figure: legend, SVG, a read-out, and the numbers as a table.

  The vertical axis is logarithmic if all values are positive and span a factor of five
  or more.

  Args:
    key: id of the figure, unique on the page.
    title: title of the figure.
    lines: lines, some of which may be empty.
    from_zero: whether the axis is linear and includes zero.

  Returns:
    HTML; '' if there is no value to draw.
  """
  lines = [
    line._replace(points=thinned(line.points[np.isfinite(line.points).all(-1)]))
    for line in lines
  ]
  lines = [line for line in lines if len(line.points)]
  if not lines:
    return ""
  points = np.concatenate([line.points for line in lines])
  steps, values = points.T
  log = not from_zero and values.min() > 0 and values.max() > 5 * values.min()
  x = _Axis(steps.min(), steps.max(), False, _LEFT, _WIDTH - _RIGHT)
  low = min(values.min(), 0.0) if from_zero else values.min()
  y = _Axis(low, values.max(), log, _HEIGHT - _BOTTOM, _TOP, pad=not from_zero)
  words = html.escape(_in_words(lines, log))
  name = html.escape(title)
  ordered = sorted(lines, key=lambda line: not line.faint)
  drawn = "".join(_drawn(line, x, y) for line in ordered)
  return (
    f'<figure class="chart" id="{key}"><figcaption>{name}</figcaption>{_legend(lines)}'
    f'<div class="plot" data-chart="{_for_script(lines, x)}">'
    f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    f'aria-labelledby="{key}-t {key}-d"><title id="{key}-t">{name}, by step</title>'
    f'<desc id="{key}-d">{words}</desc>{_grid(x, y)}{drawn}'
    f'<line class="cursor" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/></svg></div>'
    f'<output class="read" aria-hidden="true"></output>{_numbers(title, lines)}'
    "</figure>"
  )


def thinned(points: np.ndarray, most: int = _MOST_POINTS) -> np.ndarray:
  """Thins points [N, 2] to at most `most`, but keeps the extremes of each stretch."""
  if len(points) <= most:
    return points
  kept = {0, len(points) - 1}
  for part in np.array_split(np.arange(len(points)), most // 2 - 1):
    kept |= {int(part[points[part, 1].argmin()]), int(part[points[part, 1].argmax()])}
  return points[sorted(kept)]


def number(value: float) -> str:
  """Formats a value with four significant digits."""
  return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


class _Axis:
  """A map from values to places along one side of the chart."""

  def __init__(self, low, high, log, start, stop, pad=False):
    self.log, self.start, self.stop = log, start, stop
    low, high = (math.log10(low), math.log10(high)) if log else (low, high)
    if high <= low:
      spread = abs(low) / 2 or 0.5
      low, high = low - spread, high + spread
    extra = 0.04 * (high - low) if pad else 0.0
    self.low, self.high = float(low - extra), float(high + extra)

  def __call__(self, values):
    values = np.log10(values) if self.log else np.asarray(values, np.float64)
    share = (values - self.low) / (self.high - self.low)
    return self.start + share * (self.stop - self.start)

  def ticks(self, about: int = 6) -> list[float]:
    """Lists about `about` round values."""
    span = self.high - self.low
    if self.log and span > 0.8:
      per = (1, 2, 5) if span < 2.5 else (1,)
      every = max(1, round(span / 6))
      powers = range(math.floor(self.low), math.ceil(self.high) + 1, every)
      found = [m * 10.0**power for power in powers for m in per]
      return [t for t in found if self.low <= math.log10(t) <= self.high]
    low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    count = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [step * i for i in count]


def _grid(x: _Axis, y: _Axis) -> str:
  parts = []
  for tick in y.ticks():
    at = f"{float(y(tick)):.1f}"
    parts.append(
      f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
      f'<text x="{_LEFT - 7}" y="{at}" dy=".32em" text-anchor="end">{_tick(tick)}'
      "</text>"
    )
  bottom = _HEIGHT - _BOTTOM
  for tick in x.ticks(about=8):
    at = f"{float(x(tick)):.1f}"
    # The last label must stay inside the picture.
    anchor = "end" if float(x(tick)) > _WIDTH - 40 else "middle"
    parts.append(
      f'<line class="grid" x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 5}"/>'
      f'<text x="{at}" y="{bottom + 19}" text-anchor="{anchor}">{_tick(tick)}</text>'
    )
  middle = (_LEFT + _WIDTH - _RIGHT) / 2
  parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">step</text>')
  return "".join(parts)


def _tick(value: float) -> str:
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"


def _drawn(line: Line, x: _Axis, y: _Axis) -> str:
  steps, values = line.points.T
  places = np.stack([x(steps), y(values)], -1)
  path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
  parts = [f'<polyline class="line {_classes(line)}" points="{path}"/>']
  if line.dots or len(places) == 1:
    parts += [
      f'<circle class="dot s{line.colour}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>'
      for a, b in places
    ]
  return "".join(parts)


def _classes(line: Line) -> str:
  return f"s{line.colour}" + " faint" * line.faint + " dashed" * line.dashed


def _legend(lines: Sequence[Line]) -> str:
  if len(lines) == 1:
    return ""  # The title suffices.
  items = []
  for line in lines:
    dot = f'<circle class="dot s{line.colour}" cx="14" cy="6" r="3"/>' * line.dots
    items.append(
      '<li><svg viewBox="0 0 28 12" aria-hidden="true">'
      f'<line class="line {_classes(line)}" x1="0" x2="28" y1="6" y2="6"/>{dot}</svg> '
      f"{html.escape(line.name)}</li>"
    )
  return f'<ul class="legend">{"".join(items)}</ul>'


def _in_words(lines: Sequence[Line], log: bool) -> str:
  """Describes the lines, for readers who do not see the picture."""
  said = []
  for line in lines:
    steps, values = line.points.T
    low, high = values.argmin(), values.argmax()
    said.append(
      f"{line.name}: {number(values[0])} at step {steps[0]:.0f}, "
      f"{number(values[-1])} at step {steps[-1]:.0f}, lowest {number(values[low])} at "
      f"step {steps[low]:.0f}, highest {number(values[high])} at step "
      f"{steps[high]:.0f}."
    )
  return " ".join([*said, "The vertical axis is logarithmic."] if log else said)


def _for_script(lines: Sequence[Line], x: _Axis) -> str:
  data = {
    "axis": [x.low, x.high, x.start, x.stop],
    "lines": [
      {
        "name": line.name,
        "steps": [int(step) for step in line.points[:, 0]],
        "values": [number(value) for value in line.points[:, 1]],
      }
      for line in lines
    ],
  }
  return html.escape(json.dumps(data, separators=(",", ":")))


def _numbers(title: str, lines: Sequence[Line]) -> str:
  """Makes a table of some of the values."""
  steps = sorted({int(step) for line in lines for step in line.points[:, 0]})
  if len(steps) > _MOST_ROWS:
    places = np.linspace(0, len(steps) - 1, _MOST_ROWS).round().astype(int)
    steps = [steps[place] for place in places]
  values = [{int(s): number(v) for s, v in line.points} for line in lines]
  rows = [["step", *(line.name for line in lines)]]
  rows += [[f"{step:,}", *(of.get(step, "") for of in values)] for step in steps]
  shown = document.table(rows, "numbers plain", f"{title}, at some steps")
  return (
    "<details><summary>Numbers</summary>"
    f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(title)}, '
    f'numbers">{shown}</div></details>'
  )
