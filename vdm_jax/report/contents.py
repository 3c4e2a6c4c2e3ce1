"""The contents of a workdir that its page shows."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint, workdirs

_STEP = re.compile(r"step_(\d+)\.(gif|png)$")


class Sample(NamedTuple):
  """Samples of a run in training.

  Attributes:
    step: step of training.
    film: a GIF, or None.
    still: its frames side by side, a PNG, or None.
  """

  step: int
  film: epath.Path | None
  still: epath.Path | None


class Films(NamedTuple):
  """A folder of `vdm-jax sample`, with its record and a file for each video."""

  folder: epath.Path
  record: Mapping[str, Any]
  files: list[epath.Path]


class Evaluation(NamedTuple):
  """A folder of `vdm-jax eval`, with results, their table and pictures."""

  folder: epath.Path
  results: Mapping[str, Any]
  table: str
  pictures: list[epath.Path]


class Run(NamedTuple):
  """A workdir that was read.

  Attributes:
    workdir: workdir as the user named it.
    meta: contents of config.json, in which `config` is always a dict.
    lines: lines of metrics.jsonl, by step.
    steps: steps of the checkpoints.
    best: step of the best checkpoint, or None.
    samples: samples by step.
    films: folders of samples, newest first.
    evaluations: folders of results, by name.
    notes: sentences on what is missing or could not be read.
  """

  workdir: str
  meta: Mapping[str, Any]
  lines: list[dict[str, Any]]
  steps: list[int]
  best: int | None
  samples: list[Sample]
  films: list[Films]
  evaluations: list[Evaluation]
  notes: list[str]

  @property
  def config(self) -> Mapping[str, Any]:
    return self.meta["config"]

  def field(self, path: str, default: Any = None) -> Any:
    """Returns a field of the config by its dotted name, for configs of any age."""
    value = self.config
    for key in path.split("."):
      if not isinstance(value, Mapping) or key not in value:
        return default
      value = value[key]
    return value


def read(workdir: str, others: Sequence[str] = ()) -> Run:
  """Reads everything in a workdir but its weights.

  Results of `vdm-jax eval` and samples of `vdm-jax sample` are found in folders of the
  workdir.

  Args:
    workdir: workdir of a run, or an export.
    others: folders of such results and samples elsewhere.

  Raises:
    UserError: there is no run, its config.json cannot be read, or one of `others`
      holds neither results nor samples.
  """
  root = epath.Path(workdir)
  meta = _meta(root)
  lines, damaged = workdirs.scan_metrics(workdir)
  notes = []
  if damaged:
    which = ", ".join(map(str, damaged[:5])) + ", ..." * (len(damaged) > 5)
    notes.append(
      f"metrics.jsonl: {_count(len(damaged), 'line')} could not be read and "
      f"{'was' if len(damaged) == 1 else 'were'} skipped: {which}."
    )
  if not lines:
    notes.append("Nothing is logged yet: metrics.jsonl is missing or empty.")
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  if not checkpoints.steps:
    notes.append("No checkpoint is stored yet.")
  samples = _samples(root / "samples")
  if not samples:
    notes.append(
      "There are no samples of training: the folder `samples` is missing or empty "
      "(config.train.sample_every and num_samples say when they are made)."
    )
  films, evaluations = _folders(root, others, notes)
  return Run(
    workdir=str(workdir),
    meta=meta,
    lines=sorted(lines, key=lambda line: line["step"]),
    steps=checkpoints.steps,
    best=checkpoints.best_step,
    samples=samples,
    films=films,
    evaluations=evaluations,
    notes=notes,
  )


def _meta(root: epath.Path) -> dict[str, Any]:
  path = root / "config.json"
  if not path.exists():
    raise UserError(f"{root}: no run here (no config.json)")
  meta = _json(path)
  if not isinstance(meta, dict) or not isinstance(meta.get("config"), dict):
    raise UserError(
      f"{path}: expected a JSON object with a 'config', as `vdm-jax train` writes it"
    )
  return meta


def _json(path: epath.Path) -> Any:
  """Reads a JSON file; None if it is damaged."""
  try:
    return json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError):
    return None


def _samples(folder: epath.Path) -> list[Sample]:
  found: dict[int, dict[str, epath.Path]] = {}
  if folder.is_dir():
    for path in folder.iterdir():
      if match := _STEP.match(path.name):
        found.setdefault(int(match[1]), {})[match[2]] = path
  return [
    Sample(step, files.get("gif"), files.get("png"))
    for step, files in sorted(found.items())
  ]


def _folders(root, others, notes) -> tuple[list[Films], list[Evaluation]]:
  """Finds samples and results in folders of the workdir and in `others`."""
  inside = [path for path in root.iterdir() if path.is_dir()]
  films, evaluations = [], []
  for path in sorted(inside, key=lambda path: path.name):
    _sort(path, films, evaluations, notes)
  for name in others:
    path = epath.Path(name)
    if not _sort(path, films, evaluations, notes):
      raise UserError(
        f"{name}: expected a folder that `vdm-jax sample` or `vdm-jax eval` "
        "wrote (record.json or results.json), found none"
      )
  return sorted(films, key=_written, reverse=True), evaluations


def _sort(path, films, evaluations, notes) -> bool:
  """Adds a folder to the list that it belongs to, and tells whether there is one."""
  known = False
  for name in ("results.json", "record.json"):
    file = path / name
    if not file.exists():
      continue
    known, content = True, _json(file)
    if not isinstance(content, dict):
      notes.append(f"{file}: damaged, left out.")
    elif name == "record.json":
      films.append(Films(path, content, _film_files(path / "films")))
    else:
      table = path / "table.txt"
      text = table.read_bytes().decode(errors="replace") if table.exists() else ""
      pictures = sorted(p for p in path.iterdir() if p.name.endswith(".png"))
      evaluations.append(Evaluation(path, content, text, pictures))
  return known


def _film_files(folder: epath.Path) -> list[epath.Path]:
  """Lists one file per video: the MP4, which has controls, or else the GIF."""
  found: dict[str, epath.Path] = {}
  if folder.is_dir():
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
      if path.suffix in (".gif", ".mp4"):
        found[path.stem] = path  # NNNN.mp4 comes after NNNN.gif.
  return list(found.values())


def _written(films: Films) -> float:
  return (films.folder / "record.json").stat().mtime


def _count(number: int, noun: str) -> str:
  return f"{number} {noun}" + "s" * (number != 1)
