"""The page of one run, or of two side by side."""

import datetime
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

import vdm_jax
from vdm_jax.evaluation import plots
from vdm_jax.report import curves, document, listings, pictures, svg
from vdm_jax.report import script as script_lib
from vdm_jax.report.contents import Run

_STYLE = (
  """
body { max-width: 76rem; }
p, li { overflow-wrap: anywhere; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem;
  padding: 0; }
.skip { position: absolute; left: -999rem; }
.skip:focus { position: static; }
.said { border-left: 4px solid var(--warn); padding: .1rem 1rem;
  background: var(--box); }
.wide { overflow-x: auto; }
.plain td:nth-child(2), .plain th:nth-child(2) { background: none; }
.numbers.plain { width: auto; }
.config td, .config th { text-align: left; }
.config td:not(:first-child) { white-space: normal; overflow-wrap: anywhere;
  min-width: 8rem; }
.config td:first-child, .config th { white-space: nowrap; vertical-align: top; }
.config td:not(:first-child) { font-family: ui-monospace, monospace; }
.panels { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.panel { min-width: 0; }
.samples figure { margin: 0 0 1rem; }
.film, .sheet, .frames, video { image-rendering: pixelated; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center;
  margin: .5rem 0; }
.controls input { flex: 1 1 14rem; max-width: 30rem; accent-color: var(--link); }
.controls output { min-width: 8rem; font-variant-numeric: tabular-nums; }
button { font: inherit; color: var(--ink); background: var(--box); cursor: pointer;
  border: 1px solid var(--soft); border-radius: .3rem; padding: .2rem .8rem; }
button[aria-pressed=true] { background: var(--mark); border-color: var(--link); }
.script { display: none; } .js .script { display: revert; }
.js div.script { display: flex; }
.js .samples .frames { display: none; }
.js .samples.still .frames { display: inline; }
.js .samples.still .film { display: none; }
.filmset .row { display: flex; flex-wrap: wrap; gap: .6rem; margin: .5rem 0; }
.filmset video { width: 11rem; }
"""
  + svg.STYLE
)


def write(
  path: epath.PathLike,
  runs: Sequence[Run],
  *,
  base: tuple[str, Mapping[str, Any]] | None = None,
  megabytes: float = 20.0,
) -> None:
  """Writes the page, a self-contained HTML file.

  Args:
    path: path of the file.
    runs: one run, or two to compare.
    base: a config file's name and its defaults, to show what the runs changed.
    megabytes: largest size of the page without charts and text; samples are thinned
      out, with a note on what is left out.
  """
  room = pictures.Room(megabytes)
  main, rest = curves.charts(runs)
  sections = {
    "Curves": main + _details("Other metrics", rest),
    # Existing files are small; samples of training take the rest of the room.
    "Evaluation": _each(
      runs,
      lambda run: "".join(listings.evaluation(e, room) for e in run.evaluations),
      "No results of `vdm-jax eval` lie in a folder of the run; `vdm-jax report "
      "--with=DIR` names others.",
    ),
    "Videos": _each(
      runs,
      lambda run: pictures.films(run.films, room),
      "No videos of `vdm-jax sample` lie in a folder of the run; `vdm-jax report "
      "--with=DIR` names others.",
    ),
    "Data": _data(runs, room),
    "Samples while it trained": _samples(runs, room),
    "Config": listings.configs(runs, base),
    "Resume and sample": "".join(map(listings.commands, runs, listings.names(runs))),
  }
  order = ("Curves", "Samples while it trained", "Videos", "Evaluation", "Data",
           "Config", "Resume and sample")  # fmt: skip
  title = " and ".join(run.workdir for run in runs)
  names = listings.names(runs)
  notes = [
    f"{name}: {note}" if name else note
    for run, name in zip(runs, names, strict=True)
    for note in run.notes
  ]
  anchors = {name: name.split()[0].lower() for name in order}
  links = "".join(f'<li><a href="#{anchors[n]}">{n}</a></li>' for n in order)
  parts = [
    '<a class="skip" href="#main">Skip to the content</a>',
    f"<header><h1>{html.escape(title)}</h1>",
    document.paragraph(_written(), "note"),
    f'</header><nav aria-label="Parts of the page"><ul>{links}</ul></nav>',
    '<main id="main">',
    _said(notes + room.notes),
    _summary(runs),
    *(
      f'<section id="{anchors[n]}" aria-labelledby="{anchors[n]}-h">'
      f'<h2 id="{anchors[n]}-h">{n}</h2>'
      f"{sections[n] or document.paragraph('Nothing yet.', 'note')}</section>"
      for n in order
    ),
    "</main>",
  ]
  document.write(path, title, parts, style=_STYLE, script=script_lib.SCRIPT)


def _written() -> str:
  now = datetime.datetime.now(datetime.UTC)
  return f"Written {now:%Y-%m-%d %H:%M} UTC by vdm_jax {vdm_jax.__version__}."


def _said(notes: Sequence[str]) -> str:
  if not notes:
    return ""
  items = "".join(f"<li>{document.words(note)}</li>" for note in notes)
  return f'<div class="said" role="note"><ul>{items}</ul></div>'


def _summary(runs: Sequence[Run]) -> str:
  """Summarises the runs, one column each."""
  facts = list(map(_facts, runs))
  head = ["", *(name or "this run" for name in listings.names(runs))]
  rows = [[key, *(one[key] for one in facts)] for key in facts[0]]
  if len(runs) == 1:
    return document.facts(facts[0])
  return f'<div class="wide">{document.table([head, *rows], "numbers plain")}</div>'


def _facts(run: Run) -> dict[str, str]:
  losses = plots.series(run.lines, "loss")
  held_out = plots.series(run.lines, "validation_loss")
  skipped = plots.series(run.lines, "bad_total")
  speed = plots.series(run.lines, "videos_per_second")
  planned, limit = run.field("train.num_steps"), run.field("train.max_seconds")
  done = run.lines[-1]["step"] if run.lines else 0
  steps = f"{done:,}"
  if isinstance(limit, int | float) and limit > 0:
    steps += f"; its clock stops it after {limit:g} s"
  elif isinstance(planned, int):
    steps += f" of {planned:,} planned"
  best = held_out[held_out[:, 1].argmin()] if len(held_out) else None
  nothing = "none yet"
  return {
    "System": str(run.field("system", "unknown")),
    "Data": str(run.field("data.name", "unknown")),
    "Steps": steps,
    "Loss": svg.number(losses[-1, 1]) if len(losses) else nothing,
    "Best validation loss": f"{svg.number(best[1])} at step {best[0]:,.0f}"
    if best is not None
    else nothing,
    "Skipped steps": f"{skipped[-1, 1]:.0f}" if len(skipped) else "0",
    "Throughput": f"{svg.number(speed[-1, 1])} videos/s" if len(speed) else nothing,
    "Last logged": _moment(run.lines[-1].get("time")) if run.lines else nothing,
    "Checkpoints": ", ".join(f"{step:,}" for step in run.steps) or nothing,
    "Best checkpoint": nothing if run.best is None else f"step {run.best:,}",
    "Made by": ", ".join(f"{n} {run.meta.get(n, '?')}" for n in ("vdm_jax", "jax")),
  }


def _moment(seconds: Any) -> str:
  try:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  except (TypeError, ValueError, OverflowError, OSError):
    return "unknown"
  return f"{moment:%Y-%m-%d %H:%M} UTC"


def _samples(runs: Sequence[Run], room: pictures.Room) -> str:
  """Makes a slider over steps, which all runs follow."""
  # Each run may take its part of the remaining room.
  found = [
    pictures.samples(run, room, 1 / (len(runs) - place))
    for place, run in enumerate(runs)
  ]
  steps = sorted({step for one in found for step in pictures.shown_steps(one)})
  if not steps:
    return ""
  switch = any('class="frames"' in one for one in found)
  button = (
    '<button type="button" aria-pressed="false">Frames side by side</button>' * switch
  )
  panels = "".join(
    '<div class="panel">'
    + (f"<h3>{html.escape(name)}</h3>" if name else "")
    + (figures or document.paragraph("None.", "note"))
    + "</div>"
    for name, figures in zip(listings.names(runs), found, strict=True)
  )
  last = len(steps) - 1
  return (
    '<div class="samples"><div class="controls script"><label for="step">Step</label>'
    f'<input type="range" id="step" min="0" max="{last}" value="{last}" '
    f'data-steps="{html.escape(json.dumps(steps))}">'
    f'<output for="step">step {steps[-1]:,}</output>{button}</div>'
    f'<div class="panels">{panels}</div></div>'
  )


def _data(runs: Sequence[Run], room: pictures.Room) -> str:
  sets = {(run.field("data.name"), run.field("data.data_dir")): run for run in runs}
  return "".join(pictures.data_sheet(run, room) for run in sets.values())


def _each(runs: Sequence[Run], make, nothing: str) -> str:
  """Makes a part for each run, under its name if there are two."""
  parts = []
  for run, name in zip(runs, listings.names(runs), strict=True):
    heading = f"<h3>{html.escape(name)}</h3>" if name else ""
    parts.append(heading + (make(run) or document.paragraph(nothing, "note")))
  return "".join(parts)


def _details(summary: str, inner: str) -> str:
  return f"<details><summary>{summary}</summary>{inner}</details>" if inner else ""
