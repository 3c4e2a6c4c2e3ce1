"""The curves of a run that are drawn, and their grouping in charts."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.evaluation import plots
from vdm_jax.report import svg
from vdm_jax.report.contents import Run
from vdm_jax.training import optimizer

_BAND = re.compile(r"loss_logsnr_(-?[\w.]+)_(-?[\w.]+)$")
_VALIDATION = "validation_"
# Not drawn: the axis, the clock, and what the chart of another metric shows.
_NOT_DRAWN = {"step", "time", "steps_per_second", "bad_in_row", "fvd_error"}
_TITLES = {
  "grad_norm": "Gradient norm",
  "learning_rate": "Learning rate",
  "videos_per_second": "Throughput, videos per second",
  "fvd": "FVD of samples (comparable within this run alone)",
  "kvd": "KVD of samples (comparable within this run alone)",
  "param_norm": "Norm of the parameters",
  "bad_total": "Skipped steps (not finite), in all",
}
_FIRST = ("grad_norm", "learning_rate", "videos_per_second", "fvd", "kvd")


def charts(runs: Sequence[Run]) -> tuple[str, str]:
  """Draws the charts of one run, or of several over each other.

  Returns:
    HTML of the main charts, and of all other metrics; '' if there are none.
  """
  logged = [_with_rate(run) for run in runs]
  names = ["", ""] if len(runs) == 1 else [f"{chr(65 + i)}: " for i in range(len(runs))]
  known = _metrics(logged)
  bands = sorted((name for name in known if _BAND.match(name)), key=_low)
  main = [
    svg.chart("chart-loss", "Loss", _loss(logged, names)),
    svg.chart("chart-bands", "Loss by log SNR (noise)", _bands(logged, names, bands)),
  ]
  rest = []
  for name in sorted(known - {"loss", *bands}, key=lambda n: (n not in _FIRST, n)):
    group = main if name in _FIRST else rest
    title = _TITLES.get(name, name)
    lines = _metric(logged, names, name)
    if len(lines) == 1:
      lines = [lines[0]._replace(name=lines[0].name or name)]
    group.append(
      svg.chart(
        f"chart-{re.sub(r'[^a-zA-Z0-9]+', '-', name)}",
        title,
        lines,
        from_zero=name in ("videos_per_second", "bad_total"),
      )
    )
  return _grid(main), _grid(rest)


def _with_rate(run: Run) -> list[dict[str, Any]]:
  """Adds the learning rate to a run's lines, by its config if it was not logged."""
  if any("learning_rate" in line for line in run.lines) or not run.lines:
    return run.lines
  try:
    if optimizer.by_time(run.config["optimizer"]):
      return run.lines  # It followed a clock that was not logged.
    rate = optimizer.learning_rate(
      run.config["optimizer"], run.config["train"]["num_steps"]
    )
    steps = np.array([line["step"] for line in run.lines])
    values = np.asarray(rate(steps - 1), np.float64) * np.ones(len(steps))
  except (KeyError, TypeError, UserError):  # The config is of an older version.
    return run.lines
  return [
    {**line, "learning_rate": float(value)}
    for line, value in zip(run.lines, values, strict=True)
  ]


def _metrics(logged) -> set[str]:
  """Lists the names of all numeric metrics, validation's with training's."""
  names = {
    name
    for lines in logged
    for line in lines
    for name, value in line.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
  }
  names = {name.removeprefix(_VALIDATION) for name in names}
  return names - _NOT_DRAWN


def _loss(logged, names) -> list[svg.Line]:
  drawn = []
  for number, (lines, name) in enumerate(zip(logged, names, strict=False)):
    first = 2 * number if len(logged) > 1 else 0
    points = plots.series(lines, "loss")
    window = max(5, round(0.05 * len(points)))
    if len(points) > 2 * window:
      smooth = np.stack(plots.averaged(*points.T, window), -1)
      drawn.append(svg.Line(f"{name}training, as logged", points, first, faint=True))
      words = f"{name}training, mean of {window} points"
      drawn.append(svg.Line(words, smooth, first, dashed=bool(number)))
    else:
      drawn.append(svg.Line(f"{name}training", points, first, dashed=bool(number)))
    held_out = plots.series(lines, f"{_VALIDATION}loss")
    words = f"{name}validation (averaged weights)"
    drawn.append(svg.Line(words, held_out, first + 1, dots=True, dashed=bool(number)))
  return drawn


def _bands(logged, names, bands) -> list[svg.Line]:
  return [
    svg.Line(
      f"{names[number]}{_band_words(band)}",
      plots.series(lines, band),
      place % 8,
      dashed=bool(number),
    )
    for place, band in enumerate(bands)
    for number, lines in enumerate(logged)
  ]


def _metric(logged, names, name) -> list[svg.Line]:
  found = []
  for number, lines in enumerate(logged):
    run = names[number]
    colour = 2 * number
    held_out = plots.series(lines, f"{_VALIDATION}{name}")
    points = plots.series(lines, name)
    kind = "training" if len(held_out) else ""
    words = f"{run}{kind}".rstrip(": ")
    if len(points):
      # A few points, as of FVD, are better visible as dots.
      few = len(points) < 30
      found.append(svg.Line(words, points, colour, dashed=bool(number), dots=few))
    if len(held_out):
      words = f"{run}validation"
      found.append(
        svg.Line(words, held_out, colour + 1, dots=True, dashed=bool(number))
      )
  return found


def _low(band: str) -> float:
  try:
    return float(_BAND.match(band)[1])
  except ValueError:
    return np.inf


def _band_words(band: str) -> str:
  low, high = _BAND.match(band).groups()
  if low == "-inf":
    return f"below {high} (most noise)"
  if high == "inf":
    return f"above {low} (least noise)"
  return f"{low} to {high}"


def _grid(found: Sequence[str]) -> str:
  inner = "\n".join(filter(None, found))
  return f'<div class="charts">{inner}</div>' if inner else ""
