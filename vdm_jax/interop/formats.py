"""The interface of published formats, their registry, and the recognition of files.

A format is a module `interop.NAME` with

    TITLE: str                      # its name in messages
    recognises(contents) -> bool    # whether a file has this format, by keys and ranks
    read(file: File, fields: Fields) -> Published

`read` puts each config field that the system needs into `fields` with `set`, along with
its source. The sections of a run (optimizer, train, sampling, ...) have defaults, and a
value that the user asked for takes precedence or is refused. Then `read` maps keys to
parameters. It reads names and shapes, never values, which a dry run does not have.
Whatever does not fit is a `UserError`, except for missing, unexpected and misshaped
keys, which `mapping.compare` lists.
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
# Possible sources of a field. A value from shapes cannot be changed.
SOURCES = ("file", "shapes", "name", "preset", "flag", "default")


class Stored(Protocol):
  """An array of a file: NumPy's, or one that is read on demand (`torch_file`)."""

  shape: tuple[int, ...]

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


class File(NamedTuple):
  """A file for a format to read.

  Attributes:
    name: name of the file, without its folder.
    contents: mappings and sequences, with numbers, strings and `Stored` as leaves.
    dataset: the preset that the user asked for, or None.
    raw: whether to take raw parameters if the file also holds averages.
  """

  name: str
  contents: Any
  dataset: str | None = None
  raw: bool = False

  def preset(self, presets: Mapping[str, Any], default: str | None = None) -> Any:
    """Returns the preset of `dataset`, or of `default`.

    Raises:
      UserError: there is no such preset, or neither is set.
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
  """A checkpoint as its format interprets it.

  Attributes:
    entries: mapping of keys to parameters.
    state: the arrays by key.
    tables: keys of the state that are not parameters and are computed anew (noise
      schedules).
    step: step of training; 0 if the file does not say.
    ema: rate of the average in the arrays, as text; None for raw parameters.
  """

  entries: Sequence[Entry]
  state: Mapping[str, Stored]
  tables: Sequence[str] = ()
  step: int = 0
  ema: str | None = None


class Fields:
  """A config under construction that records the source of each field."""

  def __init__(self, asked: Mapping[str, Any] | None = None):
    """Starts with the defaults of the sections of a run.

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
    """Sets a field, unless the user asked for another value, and returns its value.

    Args:
      name: dotted name.
      value: a JSON-serialisable value or a tuple.
      source: one of `SOURCES`.

    Raises:
      UserError: the user asked for a value of another type, or one that contradicts the
        shapes.
    """
    if source not in SOURCES:
      raise ValueError(f"{name}: no such source {source!r}")
    if name in self._asked:
      asked = self._asked[name]
      self._used.add(name)
      _check_kind(name, asked, value)
      if source == "shapes" and plain(asked) != plain(value):
        raise errors.UserError(
          f"`{name}={asked!r}`: the shapes in the file say {value!r}"
        )
      value, source = asked, "flag" if source != "shapes" else source
    self._values[name], self.sources[name] = value, source
    return value

  def section(self, name: str, values: Mapping[str, Any], source: str) -> None:
    """Sets all fields of a section, see `set`."""
    for key, value in values.items():
      self.set(f"{name}.{key}", value, source)

  def __getitem__(self, name: str) -> Any:
    return self._values[name]

  def config(self) -> dict[str, Any]:
    """Returns the nested config.

    Raises:
      UserError: the user asked for a field that does not exist.
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
  """Loads the format of a system.

  Raises:
    UserError: there is no such format.
  """
  if name not in NAMES:
    raise errors.unknown("`system`", name, NAMES)
  return importlib.import_module(f"vdm_jax.interop.{name}")


def looks_like(contents: Any) -> list[str]:
  """Lists the names of the formats that recognise a file's contents."""
  return [name for name in NAMES if load(name).recognises(contents)]


def state_dict_shape(contents: Any, key: str) -> tuple[int, ...] | None:
  """Returns the shape of an array of a mapping; None if there is no such array."""
  found = contents.get(key) if isinstance(contents, Mapping) else None
  shape = getattr(found, "shape", None)
  return None if shape is None else tuple(shape)


def _check_kind(name: str, asked: Any, value: Any) -> None:
  """Checks that a value asked for has the type of the file's; integers are numbers."""

  def kind(a):
    if isinstance(a, bool):
      return "True or False"
    if isinstance(a, int | float):
      return "a number"
    return "a tuple" if isinstance(a, tuple | list) else "text"

  if value is not None and kind(asked) != kind(value):
    raise errors.UserError(f"`{name}={asked!r}`: expected {kind(value)}")


def plain(value: Any) -> Any:
  """Makes lists of tuples, as JSON does."""
  return list(map(plain, value)) if isinstance(value, tuple | list) else value
