"""What a name stands for: one of ours, or a function or class of the user's."""

import importlib
import importlib.util
import pathlib
from collections.abc import Mapping
from typing import Any

from vdm_jax import errors
from vdm_jax.errors import UserError


def find(kind: str, name: str, known: Mapping[str, Any]) -> Any:
  """Finds `known[name]`, or what `package.module:name` or `file.py:name` names.

  Args:
    kind: of thing, for messages.
    name: with a colon, code to import: it runs.
    known: what is registered.

  Raises:
    UserError: there is no such thing, or importing it failed.
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
