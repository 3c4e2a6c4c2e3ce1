"""Several processes of one job: who does what, and when all of it is there.

Each process works on devices of its own; what they make meets here, or on a disk that
all of them see. A job of one process does everything itself, and nothing here waits.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


def is_first() -> bool:
  """Whether this is the process that prints, and writes what is written once."""
  return jax.process_index() == 0


def share(parts: Sequence[T]) -> Sequence[T]:
  """Takes this process's parts: every so many-th, from its number on."""
  return parts[jax.process_index() :: jax.process_count()]


def wait(name: str) -> None:
  """Waits until all processes are here; errors quote the name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def collect(mine: Sequence[np.ndarray], count: int, empty: np.ndarray) -> list[Any]:
  """Brings the parts of all processes together, in their order, on every process.

  Args:
    mine: what became of this process's `share`, all of one shape and dtype.
    count: parts in all.
    empty: an array of that shape and dtype, sent by a process that has no part left.
  """
  if jax.process_count() == 1:
    return list(mine)
  rounds = -(-count // jax.process_count())
  found: list[Any] = []
  for number in range(rounds):  # No more than a part of each is under way.
    part = mine[number] if number < len(mine) else empty
    found.extend(multihost_utils.process_allgather(part))
  return found[:count]


def whole(tree: Any) -> Any:
  """Replaces arrays that other processes hold parts of by copies on the host."""

  def leaf(array):
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
      return multihost_utils.process_allgather(array, tiled=True)
    return array

  return jax.tree.map(leaf, tree)
