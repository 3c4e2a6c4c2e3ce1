"""Settings written as KEY=VALUE, as a command line has them."""

import ast
import contextlib
from collections.abc import Iterable
from typing import Any

from vdm_jax.errors import UserError


def split(text: str, what: str, keys: Iterable[str] | None = None) -> tuple[str, str]:
  """Splits KEY=VALUE into its key and the text of its value.

  Args:
    text: KEY=VALUE; the value may be empty.
    what: the text is, for the error.
    keys: those there are; None for any.

  Raises:
    UserError: it has another form, or another key.
  """
  key, equals, value = text.partition("=")
  if keys is None:
    expected, right = "KEY=VALUE", bool(key)
  else:
    known = sorted(keys)
    expected = f"KEY=VALUE with a key of {', '.join(known) or 'none, it takes none'}"
    right = key in known
  if not (equals and right):
    raise UserError(f"{what}: expected {expected}, found {text!r}")
  return key, value


def parse(texts: Iterable[str], argument: str) -> dict[str, Any]:
  """Reads several; a value is what Python makes of it, else text.

  Args:
    texts: KEY=VALUE each; of the same key the last one counts.
    argument: that they were given as, for the error.

  Raises:
    UserError: one has another form.
  """
  found = {}
  for text in texts:
    key, value = split(text, f"`{argument}`")
    found[key] = value
    with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError):
      found[key] = ast.literal_eval(value)
  return found
