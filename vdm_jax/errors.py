"""The exception that every mistake of a user's raises."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
  """A user's mistake, described in one line: what was expected and what was found."""


def reason(error: BaseException, longest: int = 160) -> str:
  """Returns an error's text on one line, or its class name if it has none."""
  return " ".join(str(error).split())[:longest] or type(error).__name__


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
  """Makes the error for a name that is not in `known`, with the nearest that is."""
  known = sorted(known)
  near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")
