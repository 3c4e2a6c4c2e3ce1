"""Base classes of builders that read files which users downloaded.

Configs are named after their options, like `64px_2split`, so that a config file and the
build agree on the name of the data, and builds with different options never mix. Files
that cannot be read are left out, named and counted.
"""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from etils import epath

from vdm_jax.data import container, decode, decoded, records, workers
from vdm_jax.errors import UserError


def workers_option() -> Any:
  """Makes the option of builders that decode files in several processes."""
  return records.option(
    0, "number of files decoded at a time; 0: one per core", stored=False
  )


@dataclasses.dataclass(eq=False)
class FolderConfig(records.ChunkConfig):
  """Options of a builder that reads a folder; the config's name holds the key ones.

  Class attributes:
    NUMBERS: {unit: field} for numbers, as in "64px".
    WORDS: {word: (field, value)} for choices.
    SHOWN: fields that a name holds even if they have their default.
  """

  path: str = records.option("", "folder of the files", stored=False)

  NUMBERS: ClassVar[dict[str, str]] = {}
  WORDS: ClassVar[dict[str, tuple[str, Any]]] = {}
  SHOWN: ClassVar[tuple[str, ...]] = ("image_size",)
  _CHUNK: ClassVar[dict[str, str]] = {"chunk": "chunk"}

  def __post_init__(self):
    least = {"image_size": 1, "chunk": 1}
    for field in (*self.NUMBERS.values(), "chunk"):
      # Neither infinite nor NaN.
      if not least.get(field, 0) <= getattr(self, field) < math.inf:
        self.refuse(field, f"a number >= {least.get(field, 0)}")
    self.name = self._canonical_name()

  @classmethod
  def from_name(cls, name: str, **options) -> "FolderConfig":
    """Parses a name such as "64px_2split"; `options` override it.

    Raises:
      UserError: a part of the name is unknown.
    """
    fields: dict[str, Any] = {}
    units = cls.NUMBERS | cls._CHUNK
    types = {field.name: type(field.default) for field in dataclasses.fields(cls)}
    for part in filter(None, name.split("_")):
      match = re.fullmatch(r"(\d+|\d+\.\d+)([a-z]+)", part)
      field = units.get(match[2]) if match else None
      if part in cls.WORDS:
        field, value = cls.WORDS[part]
        fields[field] = value
      elif field and (types[field] is float or match[1].isdigit()):
        fields[field] = types[field](match[1])
      else:
        known = [f"<number>{unit}" for unit in units] + list(cls.WORDS)
        raise UserError(
          f"data set config {name!r}: expected parts such as {', '.join(known)};"
          f" found {part!r}"
        )
    return cls(**fields | options)

  def _canonical_name(self) -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(self)}
    parts = []
    for unit, field in (self.NUMBERS | self._CHUNK).items():
      value = getattr(self, field)
      if field in self.SHOWN or value != defaults[field]:
        parts.append(f"{value:g}{unit}")
    for word, (field, value) in self.WORDS.items():
      shown = field in self.SHOWN or value != defaults[field]
      if shown and getattr(self, field) == value:
        parts.append(word)
    return "_".join(parts)

  def choose(self, field: str, known: Iterable[Any]) -> None:
    """Raises UserError unless `field` has one of the known values."""
    known = list(known)
    if getattr(self, field) not in known:
      self.refuse(field, f"one of {', '.join(map(str, known))}")

  def refuse(self, field: str, expected: str) -> None:
    """Raises the UserError for the value of `field`."""
    name = type(self).__name__.removesuffix("Config")
    raise UserError(
      f"{name} {field}: expected {expected}, found {getattr(self, field)!r}"
    )


class FolderBuilder(records.ChunkBuilder):
  """A builder that reads a user's folder and reports which videos it left out."""

  @functools.cached_property
  def _skipped(self) -> list[tuple[str, str]]:
    return []  # Before any file is read.

  @functools.cached_property
  def _notes(self) -> list[str]:
    return []

  @classmethod
  def parse(cls, config_name: str, **options) -> FolderConfig:
    return cls.CONFIG.from_name(config_name, **options)

  def root(self, expected: str) -> epath.Path:
    """Returns the user's folder; UserError, naming what is `expected`, if missing."""
    path = self.builder_config.path
    root = epath.Path(path).expanduser()
    if not path or not root.is_dir():
      raise UserError(f"{self.name}: expected {expected}, found {path!r}")
    return root

  def facts(self, name: str) -> tuple[int, str]:
    """Returns (label, caption) of the video `name`; -1 and "" for none.

    It is called again when a build resumes, as tables may have been corrected since.
    """
    return -1, ""

  def skip(self, name: str, reason: Any, split: str = "") -> None:
    """Leaves out the video `name` (of `split`, if its file was read)."""
    if split:
      self.workspace.split(split).skip(name, str(reason))
    else:
      self._skipped.append((name, str(reason)))

  def note(self, line: str) -> None:
    """Adds a note to the user, for the end of the build."""
    self._notes.append(line)

  def note_some(self, text: str, names: list[str]) -> None:
    """Adds a note about things, if there are any, and names the first few."""
    if names:
      more = ", ..." if len(names) > 3 else ""
      self.note(f"{text.format(len(names))}: {', '.join(names[:3])}{more}")

  def notes(self) -> list[str]:
    skipped = [*self._skipped, *self.workspace.skipped()]
    lines = list(self._notes)
    if skipped:
      plural = "videos were" if len(skipped) > 1 else "video was"
      lines.append(f"{len(skipped)} {plural} skipped:")
      lines += [f"  {name}: {reason}" for name, reason in skipped]
    return lines

  def read_all(
    self, jobs: Sequence[decoded.Job], split: str
  ) -> Iterator[tuple[str, decoded.Part]]:
    """Decodes files on every core; those that cannot be read are skipped.

    Files that an earlier build of the data set decoded are not decoded again.

    Args:
      jobs: the files of the split.
      split: name of the split.

    Yields:
      (name, part) of the files that no finished shard holds, in order.
    """
    if any(_needs_av(job) for job in jobs):
      container.import_av()
    work = self.workspace.split(split)
    done = work.begin(job.key() for job in jobs)
    for row in work.rows:
      row[1:3] = self.facts(row[3])
    bar = records.progress(
      workers.run(jobs[done:], self.workspace.parts, self.builder_config.num_workers),
      total=len(jobs),
      description=split,
      initial=done,
    )
    for job, key, part in bar:
      work.use(key, self.workspace.parts / key)
      if part.damage and not job.options.get("partial"):
        self.skip(job.name, part.damage, split)
      else:
        yield job.name, part

  def read_named(
    self,
    names: Sequence[str],
    found: Mapping[str, epath.Path],
    split: str,
    options: dict[str, Any],
  ) -> Iterator[records.Video]:
    """Reads the videos that a list names, and notes those that are missing.

    Args:
      names: names in order.
      found: videos by name.
      split: name of the split.
      options: options of every `decoded.Job`.
    """
    self.note_some(
      f"{{}} videos of the split {split} are missing",
      [name for name in names if name not in found],
    )
    there = [name for name in names if name in found]
    jobs = [decoded.Job(name, os.fspath(found[name]), options) for name in there]
    for name, part in self.read_all(jobs, split):
      yield self.video(name, part)

  def video(self, name: str, part: decoded.Part) -> records.Video:
    """Makes the video of `part`, called `name`, with its facts."""
    label, caption = self.facts(name)
    return records.Video(
      frames=part.frames(self.frame_shape()),
      label=label,
      caption=caption,
      name=name,
      fps=part.fps,
    )


def _needs_av(job: decoded.Job) -> bool:
  source = job.source
  if not isinstance(source, str) or source.lower().endswith(".gif"):
    return False
  return source.lower().endswith(decode.VIDEO_SUFFIXES) and not os.path.isdir(source)


def find(folder: epath.Path, suffixes: Iterable[str]) -> list[epath.Path]:
  """Finds files with one of `suffixes` at any depth below `folder`, sorted."""
  suffixes = tuple(suffixes)
  found = []
  for path in folder.iterdir():
    if path.name.startswith("."):
      continue
    if path.is_dir():
      found += find(path, suffixes)
    elif path.name.lower().endswith(suffixes):
      found.append(path)
  return sorted(found)


def find_one(folder: epath.Path, name: str) -> epath.Path:
  """Finds the file called `name` at any depth below `folder`; UserError if missing."""
  for path in find(folder, [name.lower()]):
    if path.name.lower() == name.lower():
      return path
  raise missing(folder, name)


def folder_or(path: str, default: epath.Path) -> epath.Path:
  """Returns the folder that an option names, or `default` if it names none."""
  if not path:
    return default
  folder = epath.Path(path).expanduser()
  if not folder.is_dir():
    raise missing(folder, "a folder")
  return folder


def missing(path: epath.Path, expected: str, found: str = "none") -> UserError:
  """Makes the error for a `path` without what was expected."""
  return UserError(f"{path}: expected {expected}, found {found}")
