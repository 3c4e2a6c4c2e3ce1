"""Cooperation of the processes of one job: sharing work, waiting, agreeing.

Each process works on its own devices; results are combined here, or on a disk that all
of them see. With a single process, nothing here waits.
"""

import hashlib
import json
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

import vdm_jax
from vdm_jax.errors import UserError

# What results, or the files that processes share, depend on.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# Seconds in which a file that another host has written must be seen.
_LATE = 5.0

T = TypeVar("T")


def is_first() -> bool:
  """Returns whether this is the process that prints and that writes shared files."""
  return jax.process_index() == 0


def share(parts: Sequence[T]) -> Sequence[T]:
  """Selects this process's parts: every n-th of n processes, from its number on."""
  return parts[jax.process_index() :: jax.process_count()]


def largest_share(count: int) -> int:
  """Returns how many of so many parts the process with the most of them has."""
  return -(-count // jax.process_count())


def wait(name: str) -> None:
  """Waits until all processes have called this; errors quote `name`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def installation() -> dict[str, str | None]:
  """Lists the versions of what must be the same in all processes."""
  found: dict[str, str | None] = {
    "vdm_jax": vdm_jax.__version__,
    "Python": platform.python_version(),
  }
  for name in _PACKAGES:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      found[name] = None
  return found


def agree(facts: Mapping[str, Any]) -> None:
  """Checks that facts are equal in all processes, before they wait for each other.

  Args:
    facts: JSON-serialisable values by name.

  Raises:
    UserError: a fact differs in some process; raised in every process.
  """
  if jax.process_count() == 1:
    return
  # The names first, of one size: versions of this library may compare other facts.
  _agree(["the installation"], _digest(sorted(facts))[None])
  digests = np.stack([_digest(facts[name]) for name in sorted(facts)])
  _agree(sorted(facts), digests)


def _digest(fact) -> np.ndarray:
  text = json.dumps(fact, sort_keys=True, default=str)
  return np.frombuffer(hashlib.sha256(text.encode()).digest()[:8], np.int32)


def _agree(names, digests) -> None:
  everywhere = multihost_utils.process_allgather(digests)
  for number, name in enumerate(names):
    other = np.any(everywhere[:, number] != everywhere[0, number], axis=-1)
    if other.any():
      raise UserError(
        f"{name}: process {', '.join(map(str, np.flatnonzero(other)))} has another one "
        "than process 0; start all processes with the same command and installation"
      )


def check_shared(folder: str) -> None:
  """Checks that all processes see the folder that the first one writes to.

  Raises:
    UserError: a process does not see what the first one wrote; raised in every process.
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
  # A network file system may remember for some seconds what was not there.
  until = time.monotonic() + _LATE
  while not (there := file.exists()) and time.monotonic() < until:
    time.sleep(0.5)
  seen = np.ravel(multihost_utils.process_allgather(np.array([there])))
  if is_first():
    file.unlink(missing_ok=True)
  if not seen.all():
    raise UserError(
      f"{folder}: process {', '.join(map(str, np.flatnonzero(~seen)))} does not see "
      "what process 0 writes there; expected a folder on a disk that all hosts mount, "
      "or in a bucket"
    )


def collect(mine: Sequence[np.ndarray], count: int, empty: np.ndarray) -> list[Any]:
  """Gathers the parts of all processes, in order, on every process.

  Args:
    mine: results for this process's `share`, all of one shape and dtype.
    count: number of parts of all processes together.
    empty: an array of that shape and dtype, sent by a process that has no part left.
  """
  if jax.process_count() == 1:
    return list(mine)
  rounds = -(-count // jax.process_count())
  found: list[Any] = []
  for number in range(rounds):  # One part per process at a time bounds the memory.
    part = mine[number] if number < len(mine) else empty
    found.extend(multihost_utils.process_allgather(part))
  return found[:count]


def whole(tree: Any) -> Any:
  """Replaces arrays that span processes by whole copies on the host."""

  def leaf(array):
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
      return multihost_utils.process_allgather(array, tiled=True)
    return array

  return jax.tree.map(leaf, tree)
