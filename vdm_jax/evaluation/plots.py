"""Plots of runs."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import drawing
from vdm_jax.errors import UserError
from vdm_jax.storage import workdirs


def loss_curve(workdir: str, out: epath.PathLike, *, smooth: float = 0.05) -> None:
  """Draws the training and validation loss of a run, as PNG.

  Args:
    workdir: workdir of the run, whose metrics.jsonl is read.
    out: path of the PNG.
    smooth: width of the moving average as a share of the logged points, at least 5
      points; there is no average if that would leave little of the curve.

  Raises:
    UserError: the run has logged no loss yet.
  """
  lines = workdirs.read_metrics(workdir)
  training, validation = series(lines, "loss"), series(lines, "validation_loss")
  if not len(training):
    raise UserError(f"{workdir}: metrics.jsonl holds no loss yet")
  with drawing.figure(out, (7.2, 3.6), dpi=150) as figure:
    axes = figure.add_subplot()
    steps, values = training.T
    axes.plot(steps, values, color="#b9cdf2", linewidth=1, label="training, as logged")
    window = max(5, round(smooth * len(values)))
    if len(values) > 2 * window:
      axes.plot(
        *averaged(steps, values, window), color="#1f5fd0", linewidth=1.8,
        label=f"training, mean of {window} points",
      )  # fmt: skip
    if len(validation):
      axes.plot(
        *validation.T, "o-", color="#d0561f", markersize=4, linewidth=1.2,
        label="validation (averaged weights)",
      )  # fmt: skip
    if values.min() > 0:
      axes.set_yscale("log")
      axes.yaxis.set_major_formatter("{x:g}")
      axes.yaxis.set_minor_formatter("{x:g}")
      axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(which="both", color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def series(lines: Iterable[Mapping[str, Any]], name: str) -> np.ndarray:
  """Extracts a metric's rows (step, value), float64 [N, 2], the last of each step."""
  found = {
    line["step"]: line[name]
    for line in lines
    if isinstance(line.get(name), int | float) and np.isfinite(line[name])
  }
  return np.array(sorted(found.items()), np.float64).reshape(-1, 2)


def averaged(steps, values, window):
  """Computes a centred moving average, over fewer values at the ends."""
  kernel = np.ones(window)
  count = np.convolve(np.ones(len(values)), kernel, "same")
  return steps, np.convolve(values, kernel, "same") / count
