"""Seeds: whole numbers below 2**32, which is as many as keys of JAX tell apart."""

import operator
from typing import Any

from vdm_jax.errors import UserError

COUNT = 1 << 32


def check(seed: Any, name: str = "") -> None:
  """Checks a seed: one too large would be another one's noise.

  Args:
    seed: the seed.
    name: field of the config that holds it; '' for an argument `seed`.

  Raises:
    UserError: it is out of range, or no whole number.
  """
  try:
    if 0 <= operator.index(seed) < COUNT:
      return
  except TypeError:
    pass
  found = f"{name}={seed}" if name else f"`seed={seed}`"
  raise UserError(f"{found}: expected a whole number from 0 to {COUNT - 1}")


def later(seed: int, distance: int) -> int:
  """Returns the seed at some distance from another; after the last comes 0."""
  return (seed + distance) % COUNT
