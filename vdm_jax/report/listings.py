"""Parts of the page for configs, results and commands of runs."""

import contextlib
import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flax import traverse_util

from vdm_jax import run_data
from vdm_jax.report import document, pictures
from vdm_jax.report.contents import Evaluation, Run

_ABSENT = "(absent)"
_MOST_PICTURES = 4  # Largest number of pictures per evaluation.


def flat(config: Mapping[str, Any]) -> dict[str, str]:
  """Flattens a nested config to dotted names and values in JSON."""
  found = traverse_util.flatten_dict(dict(config), keep_empty_nodes=True, sep=".")
  empty = traverse_util.empty_node
  return {
    name: "{}" if value is empty else json.dumps(value, default=str)
    for name, value in found.items()
  }


def configs(runs: Sequence[Run], base: tuple[str, Mapping[str, Any]] | None) -> str:
  """Lists the fields that were set, those that differ, and all of them.

  Args:
    runs: one or two runs.
    base: a config file's name and its defaults, or None.
  """
  parts = []
  if len(runs) == 2:
    parts.append(
      _differences(
        [("A", flat(runs[0].config)), ("B", flat(runs[1].config))],
        "What differs between A and B",
        "A and B have the same config.",
      )
    )
  for run, name in zip(runs, names(runs), strict=True):
    mine = flat(run.config)
    inner = []
    if base:
      inner.append(
        _differences(
          [(base[0], flat(base[1])), ("this run", mine)],
          f"What differs from {base[0]}",
          f"All fields are as in {base[0]}.",
        )
      )
    if overrides := _overrides(run):
      rows = [["set on the command line", "value"], *overrides]
      inner.append(_wide(rows))
    table = _wide([["field", "value"], *map(list, sorted(mine.items()))])
    inner.append(
      f"<details><summary>All {len(mine)} fields{_of(name)}</summary>{table}</details>"
    )
    heading = f"<h3>{html.escape(name)}</h3>" if name else ""
    parts.append(heading + "".join(inner))
  return "".join(parts)


def evaluation(one: Evaluation, room: pictures.Room) -> str:
  """Shows a folder of results: its subject, its table, its pictures."""
  protocol = one.results.get("protocol", "results")
  settings = one.results.get("settings")
  parts = [f"<h3>{html.escape(f'{protocol}: {one.folder.name}')}</h3>"]
  parts += _tables(one.table) if one.table.strip() else []
  for path in one.pictures[:_MOST_PICTURES]:
    words = f"{path.stem.replace('_', ' ').capitalize()}, of {one.folder.name}"
    parts.append(pictures.picture(room, path, words, "sheet"))
  if isinstance(settings, Mapping):
    rows = [["setting", "value"], *map(list, flat(settings).items())]
    parts.append("<details><summary>Settings</summary>" + _wide(rows) + "</details>")
  return "".join(parts)


def commands(run: Run, name: str) -> str:
  """Lists commands that resume a run, show it and sample from it."""
  folder = shlex.quote(run.workdir)
  plain = run.workdir.rstrip("/")
  quoted = run.meta.get("command")
  exported = "exported_from" in run.meta
  lines, note = [], ""
  if not exported:
    # The command as it was typed, wherever the page is read.
    lines.append(
      str(quoted) if quoted else f"vdm-jax train --config=CONFIG --workdir={folder}"
    )
    if not quoted:
      note = (
        "CONFIG is the config file that the run was started with, and after it come "
        "the same --config.section.field=value; the run does not say which."
      )
  if sample := _sampling(run):
    lines.append(sample)
  if not exported:
    lines.append(f"vdm-jax status {folder}")
    lines.append(
      f"vdm-jax export --workdir={folder} --out={shlex.quote(plain + '_slim')}"
    )
  title = f"Commands{_of(name)}"
  inner = html.escape("\n".join(lines))
  heading = f"<h3>{html.escape(name)}</h3>" if name else ""
  return (
    f'{heading}<pre tabindex="0" role="region" aria-label="{html.escape(title)}">'
    f"<code>{inner}</code></pre>" + (document.paragraph(note, "note") if note else "")
  )


def _sampling(run: Run) -> str:
  """Returns the command that samples a run as `train` prints it; '' if none can.

  Where the system or the data cannot be opened, it is guessed from the config.
  """
  # A page is made of runs of others, too: no code that they name is run for it.
  task = run.field("task")
  texts = flat(task).values() if isinstance(task, Mapping) else ()
  if not any(":" in text for text in (str(run.field("system", "")), *texts)):
    with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError, OSError):
      return run_data.sampling_command(run.config, run.workdir)
  if not run.field("diffusion"):  # A classifier or regressor, which does not sample.
    return ""
  given = run.field("task.num_context") or run.field("task.num_obs")
  options = [
    "--label=0" * bool(run.field("model.num_labels")),
    "--caption='a caption'" * bool(run.field("model.token_dim")),
    f"--num_obs={given}" if given else "",
  ]
  start = f"vdm-jax sample --workdir={shlex.quote(run.workdir)}"
  out = shlex.quote(run.workdir.rstrip("/") + "/films")
  return " ".join(filter(None, [start, *options, f"--num_videos=8 --out={out}"]))


def names(runs: Sequence[Run]) -> list[str]:
  """Returns the names of runs on the page; '' if there is only one."""
  if len(runs) == 1:
    return [""]
  return [f"{chr(65 + i)}: {run.workdir}" for i, run in enumerate(runs)]


def _of(name: str) -> str:
  return f" of {html.escape(name)}" if name else ""


def _overrides(run: Run) -> list[list[str]]:
  """Lists the fields that the command set, as written there."""
  try:
    words = shlex.split(str(run.meta.get("command", "")))
  except ValueError:
    return []
  found = []
  for place, word in enumerate(words):
    if match := re.match(r"--config\.([\w.]+)(?:=(.*))?$", word, re.DOTALL):
      after = words[place + 1] if place + 1 < len(words) else ""
      found.append([match[1], after if match[2] is None else match[2]])
  return found


def _differences(sides, title: str, same: str) -> str:
  (_, old), (_, new) = sides
  rows = [
    [key, old.get(key, _ABSENT), new.get(key, _ABSENT)]
    for key in sorted({*old, *new})
    if old.get(key, _ABSENT) != new.get(key, _ABSENT)
  ]
  if not rows:
    return document.paragraph(same)
  head = ["field", *(name for name, _ in sides)]
  return _wide([head, *rows], title)


def _tables(text: str) -> list[str]:
  """Converts the tables of a table.txt (`text_table.table`) to HTML.

  A block is a header, a rule of dashes, and rows whose cells are two or more spaces
  apart; everything else is kept as it is.
  """
  parts = []
  for block in re.split(r"\n\s*\n", text.strip("\n")):
    lines = block.splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    if len(lines) > 2 and re.fullmatch(r"-{3,}", lines[1].strip()):
      head, _, *body = rows
      if all(len(row) == len(head) > 1 for row in body):
        parts.append(_scrolled(document.table([head, *body], "numbers plain"), head[0]))
        continue
    parts.append(f'<pre tabindex="0">{html.escape(block)}</pre>')
  # Tables by lead time have many rows, so only the first table is shown at once.
  if len(parts) > 2:
    rest = "".join(parts[2:])
    parts[2:] = [f"<details><summary>More tables</summary>{rest}</details>"]
  return parts


def _wide(rows: Sequence[Sequence[str]], title: str = "") -> str:
  """Makes a table of fields that scrolls on narrow screens."""
  return _scrolled(document.table(rows, "numbers plain config", title), rows[0][0])


def _scrolled(table: str, name: str) -> str:
  """Makes a wide table scroll, by keyboard, too."""
  words = html.escape(f"Table: {name}")
  return (
    f'<div class="wide" tabindex="0" role="region" aria-label="{words}">{table}</div>'
  )
