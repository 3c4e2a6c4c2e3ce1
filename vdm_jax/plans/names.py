"""Look-up of names: registered ones, or a function or class of the user's."""

import importlib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from vdm_jax import errors
from vdm_jax.errors import UserError


def find(kind: str, name: str, known: Mapping[str, Any]) -> Any:
  """Finds `known[name]`, or the object that `package.module:name` or `file.py:name` is.

  Args:
    kind: what is looked up, for error messages.
    name: a registered name or, with a colon, code that is imported and so executed.
    known: registered objects by name.

  Raises:
    UserError: there is no such object, or importing it failed.
  """
  if name in known:
    return known[name]
  if ":" not in name:
    raise errors.unknown(kind, name, known)
  where, _, attribute = name.rpartition(":")
  try:
    module = _load_file(where) if where.endswith(".py") else _import(where)
  except Exception as error:  # The user's code may raise anything.
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise UserError(f"{kind} {name!r}: cannot import {where!r} ({reason})") from error
  if not hasattr(module, attribute):
    public = [key for key in vars(module) if not key.startswith("_")]
    raise errors.unknown(f"attribute of {where!r} ({kind} {name!r})", attribute, public)
  return getattr(module, attribute)


def _import(name: str):
  return importlib.import_module(name)


def _load_file(name: str):
  path = pathlib.Path(name).absolute()
  if not path.is_file():
    raise FileNotFoundError(f"no such file: {path}")
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
