"""What builders share that read files which users downloaded.

Their configs name themselves after their options, `64px_2split`: a config file and
the build agree on the name of the data, and other options never meet the records of
these. What cannot be read is left out, named and counted.
"""

import contextlib
import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from etils import epath

from vdm_jax.data import decode, records
from vdm_jax.errors import UserError

_MEMORY = 256 << 20  # A longer video waits on disk until it is known to be whole.


@dataclasses.dataclass(eq=False)
class FolderConfig(records.ChunkConfig):
  """Options of a builder that reads a folder; its name says those that matter.

  Class attributes:
    NUMBERS: {unit: field}, as in "64px".
    WORDS: {word: (field, value)} for choices.
    SHOWN: fields that a name says even where they have their default.
  """

  path: str = records.option("", "folder of the files", stored=False)

  NUMBERS: ClassVar[dict[str, str]] = {}
  WORDS: ClassVar[dict[str, tuple[str, Any]]] = {}
  SHOWN: ClassVar[tuple[str, ...]] = ("image_size",)
  _CHUNK: ClassVar[dict[str, str]] = {"chunk": "chunk"}

  def __post_init__(self):
    least = {"image_size": 1, "chunk": 1}
    for field in (*self.NUMBERS.values(), "chunk"):
      if getattr(self, field) < least.get(field, 0):
        self.refuse(field, f"a number >= {least.get(field, 0)}")
    self.name = self._canonical_name()

  @classmethod
  def from_name(cls, name: str, **options) -> "FolderConfig":
    """The config called `name`, such as "64px_2split"; `options` win over it.

    Raises:
      UserError: a part of the name is none of this config's.
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


class Decoded(NamedTuple):
  """A video that was decoded to its end.

  Attributes:
    length: frames.
    fps: frames per second, 0 for unknown.
    frames: the frames, to be taken once.
  """

  length: int
  fps: float
  frames: Iterator[np.ndarray]


class FolderBuilder(records.ChunkBuilder):
  """A builder that reads a user's folder and reports what it left out."""

  @functools.cached_property
  def _skipped(self) -> list[tuple[str, str]]:
    return []

  @functools.cached_property
  def _notes(self) -> list[str]:
    return []

  @classmethod
  def parse(cls, config_name: str, **options) -> FolderConfig:
    return cls.CONFIG.from_name(config_name, **options)

  def root(self, expected: str) -> epath.Path:
    """The user's folder; UserError that says what was `expected` if it is none."""
    path = self.builder_config.path
    root = epath.Path(path).expanduser()
    if not path or not root.is_dir():
      raise UserError(f"{self.name}: expected {expected}, found {path!r}")
    return root

  def skip(self, name: str, reason: Any) -> None:
    """Leaves out the video `name`."""
    self._skipped.append((name, str(reason)))

  def note(self, line: str) -> None:
    """Something else that the user should be told after the build."""
    self._notes.append(line)

  def note_some(self, text: str, names: list[str]) -> None:
    """A note about many things, of which the first few are named; none: no note."""
    if names:
      more = ", ..." if len(names) > 3 else ""
      self.note(f"{text.format(len(names))}: {', '.join(names[:3])}{more}")

  def notes(self) -> list[str]:
    lines = list(self._notes)
    if self._skipped:
      plural = "videos were" if len(self._skipped) > 1 else "video was"
      lines.append(f"{len(self._skipped)} {plural} skipped:")
      lines += [f"  {name}: {reason}" for name, reason in self._skipped]
    return lines

  def read_whole(
    self, items: Iterable[tuple[str, epath.Path]], description: str, **options
  ) -> Iterator[tuple[str, Decoded]]:
    """Decodes videos one after another; those that cannot be are skipped.

    Args:
      items: (name, path) pairs.
      description: of the progress bar.
      **options: of `whole`.

    Yields:
      (name, video), whose frames must be taken before the next pair is.
    """
    items = list(items)
    for name, path in records.progress(
      items, total=len(items), description=description
    ):
      with contextlib.ExitStack() as stack:
        try:
          decoded = stack.enter_context(whole(path, **options))
        except decode.Unreadable as error:
          self.skip(name, str(error).removeprefix(f"{path}: "))
          continue
        yield name, decoded


@contextlib.contextmanager
def whole(
  path: epath.Path,
  *,
  size: tuple[int, int],
  channels: int = 3,
  fps: float = 0.0,
  max_frames: int = 0,
) -> Iterator[Decoded]:
  """Decodes a video to the end first, since only there a truncated file shows.

  Args:
    path: a file or a folder of pictures.
    size: (H, W) of the frames.
    channels: 3 RGB, 1 grey.
    fps: frames per second; 0 keeps every coded frame.
    max_frames: stops after so many; 0: no limit.

  Raises:
    Unreadable: see `decode.decode`.
  """
  with tempfile.SpooledTemporaryFile(_MEMORY) as spool:
    length, last = 0, 0.0
    for time, frame in decode.decode(path, size=size, fps=fps, channels=channels):
      if max_frames and length == max_frames:
        break
      spool.write(frame.tobytes())
      length, last = length + 1, time
    timed = last > 0 and not path.is_dir()
    rate = (length - 1) / last if timed else 0.0
    yield Decoded(length, rate, _unspool(spool, length, (*size, channels)))


def _unspool(spool, length: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
  spool.seek(0)
  for _ in range(length):
    yield np.frombuffer(spool.read(int(np.prod(shape))), np.uint8).reshape(shape)


def find(folder: epath.Path, suffixes: Iterable[str]) -> list[epath.Path]:
  """The files at any depth below `folder` that end in one of `suffixes`, sorted."""
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
  """The file called `name` at any depth below `folder`; UserError if there is none."""
  for path in find(folder, [name.lower()]):
    if path.name.lower() == name.lower():
      return path
  raise missing(folder, name)


def folder_or(path: str, default: epath.Path) -> epath.Path:
  """The folder that an option names, or `default` if it names none."""
  if not path:
    return default
  folder = epath.Path(path).expanduser()
  if not folder.is_dir():
    raise missing(folder, "a folder")
  return folder


def missing(path: epath.Path, expected: str, found: str = "none") -> UserError:
  """The error for what is not in `path` as it should be."""
  return UserError(f"{path}: expected {expected}, found {found}")
