"""What a published format is, which there are, and which one a file looks like.

A format is a module `interop.NAME` with

    TITLE: str                      # what messages call it
    recognises(contents) -> bool    # by keys and ranks alone: is it one of mine?
    read(file: File, fields: Fields) -> Published

`read` puts each config field that the system needs into `fields` with `set`, and
says where it came from; the sections of a run (optimizer, train, sampling, ...) have
defaults already, and a value the user asked for wins or is refused there. Then it
says which keys are which parameters. It looks at names and shapes, never at values:
a dry run has none. Whatever does not fit is a `UserError`; missing, unexpected and
misshaped keys are not its business (`mapping.compare` lists them).
"""

import importlib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from vdm_jax import errors
from vdm_jax.interop import run_defaults
from vdm_jax.interop.mapping import Entry

NAMES = ("fdm", "ramvid", "rvd")
# Where a field can come from. What shapes tell cannot be otherwise.
SOURCES = ("file", "shapes", "name", "preset", "flag", "default")


class Stored(Protocol):
  """An array of a file: NumPy's own, or one read when asked for (`torch_file`)."""

  shape: tuple[int, ...]

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


class File(NamedTuple):
  """What a format reads.

  Attributes:
    name: of the file, without its folder.
    contents: mappings and sequences; their leaves are numbers, strings and `Stored`.
    dataset: the preset asked for, or None.
    raw: the raw parameters are asked for where a file holds averages too.
  """

  name: str
  contents: Any
  dataset: str | None = None
  raw: bool = False

  def preset(self, presets: Mapping[str, Any], default: str | None = None) -> Any:
    """The preset of `dataset`, or of `default`.

    Raises:
      UserError: there is no such one, or none was asked for and there is no default.
    """
    name = self.dataset or default
    if name is None:
      raise errors.UserError(
        f"{self.name} does not say what it was trained for: expected `dataset=NAME` "
        f"with one of {', '.join(sorted(presets))}"
      )
    if name not in presets:
      raise errors.unknown("`dataset`", name, presets)
    return presets[name]


class Published(NamedTuple):
  """A checkpoint as its format understands it.

  Attributes:
    entries: which key is which parameter.
    state: the arrays by key.
    tables: keys of the state that are no parameters and are made anew (noise
      schedules).
    step: of training; 0 where the file does not tell.
    ema: rate of the average that the arrays are, as text; None for raw parameters.
  """

  entries: Sequence[Entry]
  state: Mapping[str, Stored]
  tables: Sequence[str] = ()
  step: int = 0
  ema: str | None = None


class Fields:
  """A config under construction that remembers where each field came from."""

  def __init__(self, asked: Mapping[str, Any] | None = None):
    """Starts with the defaults of what a run needs.

    Args:
      asked: values that the user asked for, by dotted name ('model.heads').
    """
    self._asked = dict(asked or {})
    self._used = set()
    self._values: dict[str, Any] = {}
    self.sources: dict[str, str] = {}
    for name, value in run_defaults.FIELDS.items():
      self.set(name, value, "default")

  def set(self, name: str, value: Any, source: str) -> Any:
    """Sets a field, unless the user asked for another value; returns what it is now.

    Args:
      name: dotted.
      value: anything JSON can hold, and tuples.
      source: one of `SOURCES`.

    Raises:
      UserError: the user asked for a value that shapes contradict, or of another
        kind.
    """
    if source not in SOURCES:
      raise ValueError(f"{name}: no such source {source!r}")
    if name in self._asked:
      asked = self._asked[name]
      self._used.add(name)
      _check_kind(name, asked, value)
      if source == "shapes" and _plain(asked) != _plain(value):
        raise errors.UserError(
          f"`{name}={asked!r}`: the shapes in the file say {value!r}"
        )
      value, source = asked, "flag" if source != "shapes" else source
    self._values[name], self.sources[name] = value, source
    return value

  def section(self, name: str, values: Mapping[str, Any], source: str) -> None:
    """`set` for all fields of a section."""
    for key, value in values.items():
      self.set(f"{name}.{key}", value, source)

  def __getitem__(self, name: str) -> Any:
    return self._values[name]

  def config(self) -> dict[str, Any]:
    """The config, nested.

    Raises:
      UserError: the user asked for a field that there is not.
    """
    for name in self._asked.keys() - self._used:
      raise errors.unknown("config field", name, self._values)
    nested: dict[str, Any] = {}
    for name, value in self._values.items():
      *sections, key = name.split(".")
      inside = nested
      for section in sections:
        inside = inside.setdefault(section, {})
      inside[key] = value
    return nested


def load(name: str) -> ModuleType:
  """The format of a system.

  Raises:
    UserError: there is none.
  """
  if name not in NAMES:
    raise errors.unknown("`system`", name, NAMES)
  return importlib.import_module(f"vdm_jax.interop.{name}")


def looks_like(contents: Any) -> list[str]:
  """The names of the formats that recognise a file's contents."""
  return [name for name in NAMES if load(name).recognises(contents)]


def state_dict_shape(contents: Any, key: str) -> tuple[int, ...] | None:
  """The shape of an array of a mapping; None if there is no such array."""
  found = contents.get(key) if isinstance(contents, Mapping) else None
  shape = getattr(found, "shape", None)
  return None if shape is None else tuple(shape)


def _check_kind(name: str, asked: Any, value: Any) -> None:
  """A number for a number, a tuple for a tuple; whole numbers are numbers."""

  def kind(a):
    if isinstance(a, bool):
      return "True or False"
    if isinstance(a, int | float):
      return "a number"
    return "a tuple" if isinstance(a, tuple | list) else "text"

  if value is not None and kind(asked) != kind(value):
    raise errors.UserError(f"`{name}={asked!r}`: expected {kind(value)}")


def _plain(value: Any) -> Any:
  return list(map(_plain, value)) if isinstance(value, tuple | list) else value
