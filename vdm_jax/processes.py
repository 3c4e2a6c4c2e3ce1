"""Several processes of one job: who does what, and when all of it is there.

Each process works on devices of its own; what they make meets here, or on a disk that
all of them see. A job of one process does everything itself, and nothing here waits.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from vdm_jax.errors import UserError

T = TypeVar("T")


def is_first() -> bool:
  """Tells whether this is the process that prints, and writes what is written once."""
  return jax.process_index() == 0


def share(parts: Sequence[T]) -> Sequence[T]:
  """Takes this process's parts: every so many-th, from its number on."""
  return parts[jax.process_index() :: jax.process_count()]


def wait(name: str) -> None:
  """Waits until all processes are here; errors quote the name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def agree(facts: Mapping[str, Any]) -> None:
  """Checks that facts are the same in all processes, before they wait for each other.

  Args:
    facts: JSON-able, by name; the same names everywhere.

  Raises:
    UserError: in every process, one of them differs.
  """
  if jax.process_count() == 1:
    return
  digests = [
    hashlib.sha256(json.dumps(fact, sort_keys=True, default=str).encode()).digest()[:8]
    for fact in facts.values()
  ]
  mine = np.frombuffer(b"".join(digests), np.int32).reshape(len(facts), 2)
  everywhere = multihost_utils.process_allgather(mine)
  for number, name in enumerate(facts):
    other = np.any(everywhere[:, number] != everywhere[0, number], axis=-1)
    if other.any():
      raise UserError(
        f"{name}: process {', '.join(map(str, np.flatnonzero(other)))} has another one "
        "than process 0; start all processes with the same command and installation"
      )


def check_shared(folder: str) -> None:
  """Checks that all processes see a folder, where the first one writes.

  Raises:
    UserError: in every process, one does not see what the first one wrote.
  """
  if jax.process_count() == 1:
    return
  draw = np.frombuffer(uuid.uuid4().bytes, np.int32)
  token = multihost_utils.broadcast_one_to_all(draw)
  file = epath.Path(folder) / f".seen_{np.asarray(token).tobytes().hex()}"
  if is_first():
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
  wait("the folder is there")
  seen = np.ravel(multihost_utils.process_allgather(np.array([file.exists()])))
  if is_first():
    file.unlink(missing_ok=True)
  if not seen.all():
    raise UserError(
      f"{folder}: process {', '.join(map(str, np.flatnonzero(~seen)))} does not see "
      "what process 0 writes there; expected a folder on a disk that all hosts mount, "
      "or in a bucket"
    )


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
