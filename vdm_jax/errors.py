"""The one exception that a user's mistake raises."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """A mistake of the user's, told in one line: what was expected, what was found."""


def reason(error: BaseException, longest: int = 160) -> str:
  """An error's text, on one line; its class where it has none."""
  return " ".join(str(error).split())[:longest] or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
  """The error for a name that is not one of `known`: names the nearest."""
  known = sorted(known)
  near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")
