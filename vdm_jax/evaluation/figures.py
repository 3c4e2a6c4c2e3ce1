"""Figures of protocols: curves by lead time, speeds, walks on their map."""

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from vdm_jax import drawing

COLOURS = ("#1f5fd0", "#d0561f", "#2e8b57", "#8a4fbf", "#b8860b", "#555555")


def by_lead(
  out: epath.PathLike,
  panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
) -> None:
  """Draws curves over lead time, one panel per measure.

  Args:
    out: path of the PNG.
    panels: title -> curve's name -> (values [T], standard errors [T]).
  """
  with drawing.figure(out, (4.6 * len(panels), 3.4)) as figure:
    for axes, (title, curves) in zip(
      np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
      for i, (name, (values, errors)) in enumerate(curves.items()):
        lead, colour = np.arange(1, len(values) + 1), COLOURS[i % len(COLOURS)]
        axes.plot(lead, values, "o-", color=colour, markersize=3, label=name)
        axes.fill_between(
          lead, values - errors, values + errors, color=colour, alpha=0.2, linewidth=0
        )
      axes.set(xlabel="lead time, frames", title=title)
      _plain(axes)
      axes.legend(frameon=False, fontsize=8)


def by_calls(
  out: epath.PathLike,
  panels: Mapping[
    str,
    tuple[Mapping[str, Sequence[tuple[float, float, float]]], Mapping[str, float]],
  ],
) -> None:
  """Draws curves over network calls, one panel per measure.

  Args:
    out: path of the PNG.
    panels: title -> (curve's name -> (calls, value, standard error) of each point,
      and name -> value of what needs no calls).
  """
  with drawing.figure(out, (4.6 * len(panels), 3.4)) as figure:
    for axes, (title, (curves, levels)) in zip(
      np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True
    ):
      for i, (name, points) in enumerate(curves.items()):
        calls, values, errors = np.array(sorted(points), float).T
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(
          calls, values, errors, fmt="o-", color=colour, markersize=3, label=name
        )
      for i, (name, value) in enumerate(levels.items()):
        axes.axhline(value, color="#888888", linestyle=(":", "--")[i % 2], label=name)
      axes.set(xscale="log", xlabel="network calls per window", title=title)
      _plain(axes)
      axes.legend(frameon=False, fontsize=8)


def bars(
  out: epath.PathLike, title: str, values: Mapping[str, tuple[float, float]]
) -> None:
  """Draws values with their standard errors as bars, from top to bottom.

  Args:
    out: path of the PNG.
    title: name of the measure.
    values: name -> (value, standard error).
  """
  with drawing.figure(out, (6.4, 0.6 + 0.26 * len(values))) as figure:
    axes = figure.subplots()
    places = -np.arange(len(values))
    found, errors = np.array(list(values.values()), float).T
    axes.barh(places, found, xerr=errors, color=COLOURS[0], height=0.7)
    axes.set(yticks=places, yticklabels=list(values), title=title)
    _plain(axes)


def speeds(
  out: epath.PathLike,
  curves: Mapping[str, np.ndarray],
  threshold: float,
  unit: str,
) -> None:
  """Draws densities of speeds.

  Args:
    out: path of the PNG.
    curves: name -> speeds [K].
    threshold: speed above which it is an outlier; all outliers share the last bin.
    unit: unit of the speeds.
  """
  edges = np.linspace(0, threshold, 41)
  beyond = 1.04 * threshold
  with drawing.figure(out, (7.2, 3.6)) as figure:
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(curves.items()):
      counts, _ = np.histogram(values, np.append(edges, np.inf))
      share = counts / max(1, len(values))
      axes.stairs(
        share, np.append(edges, beyond), color=COLOURS[i % len(COLOURS)], label=name
      )
    axes.axvline(threshold, color="#999999", linestyle="--", linewidth=1)
    axes.set(xlabel=f"speed, {unit}; right of the line: outliers", ylabel="share")
    _plain(axes)
    axes.legend(frameon=False, fontsize=8)


def walks(
  out: epath.PathLike,
  panels: Mapping[str, Sequence[np.ndarray]],
  *,
  walls: np.ndarray,
  bounds: Sequence[float],
  longest: float,
) -> None:
  """Draws trajectories on the map, one panel per set.

  Args:
    out: path of the PNG.
    panels: title -> walks [T, 2].
    walls: [M, 4], (x0, y0, x1, y1) of each wall; M may be 0.
    bounds: (x_min, y_min, x_max, y_max) of the map.
    longest: steps longer than this are jumps and are dotted.
  """
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  height = (bounds[3] - bounds[1]) / (bounds[2] - bounds[0])
  with drawing.figure(
    out, (4.2 * columns, (4.2 * min(height, 2) + 0.4) * rows)
  ) as figure:
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(panels) :]:
      axes.set_axis_off()
    for axes, (title, paths) in zip(grid, panels.items(), strict=False):
      for wall in walls:
        axes.plot(wall[[0, 2]], wall[[1, 3]], color="#333333", linewidth=1)
      for i, path in enumerate(paths):
        colour = COLOURS[i % len(COLOURS)]
        steps = np.linalg.norm(np.diff(path, axis=0), axis=-1)
        for part in np.split(path, 1 + np.flatnonzero(steps > longest)):
          axes.plot(*part.T, color=colour, linewidth=1)
        for jump in np.flatnonzero(steps > longest):
          axes.plot(*path[jump : jump + 2].T, ":", color=colour, linewidth=0.7)
        axes.plot(*path[0], "o", color=colour, markersize=5)
      axes.set_title(title, fontsize=9)
      axes.set(xlim=(bounds[0], bounds[2]), ylim=(bounds[1], bounds[3]))
      axes.set_aspect("equal")
      axes.tick_params(labelsize=7)


def _plain(axes) -> None:
  axes.grid(color="#e4e4e4", linewidth=0.6)
  axes.spines[["top", "right"]].set_visible(False)
