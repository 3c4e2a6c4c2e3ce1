"""What a name stands for: one of ours, or a function or class of the user's."""

import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from vdm_jax import errors
from vdm_jax.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T]):
  """Things by name, in the order they were registered."""

  def __init__(self, kind: str, known: Mapping[str, T] | None = None):
    """Starts with the things that are known already.

    Args:
      kind: of thing, for messages.
      known: by name.
    """
    self._kind = kind
    self._known = dict(known or {})

  def register(self, name: str, thing: T) -> None:
    """Makes a thing nameable; one of the same name is replaced."""
    self._known[name] = thing

  def find(self, name: str) -> T:
    """Finds what is registered under a name.

    Raises:
      UserError: nothing is; it lists what is.
    """
    if name not in self._known:
      raise errors.unknown(self._kind, name, self._known)
    return self._known[name]

  def find_or_import(self, name: str) -> T | Any:
    """Finds what is registered, or what the user's own code calls by that name.

    Args:
      name: as registered, or `package.module:attribute` or `file.py:attribute`: that
        code is imported and run.

    Raises:
      UserError: there is no such thing, or importing it failed.
    """
    if name in self._known or ":" not in name:
      return self.find(name)
    where, _, attribute = name.rpartition(":")
    try:
      module = _load_file(where) if where.endswith(".py") else _import(where)
    except Exception as error:  # The user's code may raise anything.
      reason = " ".join(f"{type(error).__name__}: {error}".split())
      raise UserError(
        f"{self._kind} {name!r}: cannot import {where!r} ({reason})"
      ) from error
    if not hasattr(module, attribute):
      public = [key for key in vars(module) if not key.startswith("_")]
      of = f"attribute of {where!r} ({self._kind} {name!r})"
      raise errors.unknown(of, attribute, public)
    return getattr(module, attribute)

  def __getitem__(self, name: str) -> T:
    return self._known[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._known)

  def __len__(self) -> int:
    return len(self._known)


def check_arguments(
  make: Callable[..., Any],
  given: Collection[str],
  *,
  kind: str,
  prefix: str,
  always: Collection[str] = (),
) -> None:
  """Checks the names of the arguments that a user passes to a function or class.

  Args:
    make: function or class.
    given: names of the arguments.
    kind: of argument, for the error of an unknown one.
    prefix: text before the name of a missing one in its error.
    always: arguments that are passed in any case, and not by the user.

  Raises:
    UserError: it takes no such argument, or one that it needs is missing.
  """
  parameters = inspect.signature(make).parameters
  takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  named = {
    name: p
    for name, p in parameters.items()
    if name not in always and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
  }
  for name in given:
    if name not in named and not takes_any:
      raise errors.unknown(kind, name, named)
  for name, parameter in named.items():
    if name not in given and parameter.default is parameter.empty:
      raise UserError(f"{prefix}{name}: missing")


def missing(interface: type, thing: Any) -> list[str]:
  """Lists the attributes and methods of a protocol that a thing lacks, by name."""
  members = dict.fromkeys(
    name
    for cls in reversed(interface.__mro__)
    for name in (*inspect.get_annotations(cls), *vars(cls))
  )
  return [m for m in members if not m.startswith("_") and not hasattr(thing, m)]


def _import(name: str):
  return importlib.import_module(name)


def _load_file(name: str):
  path = pathlib.Path(name).absolute()
  if not path.is_file():
    raise FileNotFoundError(f"no such file: {path}")
  # Not the stem alone, which may be the name of a module that is imported.
  digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
  spec = importlib.util.spec_from_file_location(f"{path.stem}_{digest}", path)
  module = importlib.util.module_from_spec(spec)
  # Dataclasses look their module up while it is still being executed.
  sys.modules[spec.name] = module
  try:
    spec.loader.exec_module(module)
  except BaseException:
    sys.modules.pop(spec.name, None)
    raise
  return module
