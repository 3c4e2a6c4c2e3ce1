"""Prefetching of batches to the device, ahead of the step that needs them."""

import collections
from concurrent import futures
from typing import Any

import grain
import jax
import numpy as np


class DeviceIterator(grain.DatasetIterator):
  """An iterator that keeps `depth` batches of another one on device, ahead of time.

  One thread reads the next host batch and starts its transfer while the step runs.
  `get_state()` is the state after the last batch that was *returned*: prefetched
  batches come again after a resume. Being a grain iterator, it can be checkpointed with
  grain's `CheckpointSave/Restore`.
  """

  def __init__(self, iterator, sharding: jax.sharding.Sharding, depth: int = 2):
    """Takes the arguments of `device_iterator`."""
    super().__init__()
    self._host, self._sharding, self._depth = iterator, sharding, depth
    self._state = iterator.get_state()
    self._pending: collections.deque[futures.Future] = collections.deque()
    # A single worker keeps batches in order and is the only user of the iterator.
    self._worker = futures.ThreadPoolExecutor(1, thread_name_prefix="device-batches")

  def __next__(self) -> Any:
    self.start_prefetch()
    item = self._pending.popleft().result()
    if item is None:
      self._pending.clear()
      raise StopIteration
    batch, self._state = item
    self.start_prefetch()
    return batch

  def start_prefetch(self) -> None:
    while len(self._pending) < self._depth:
      self._pending.append(self._worker.submit(self._load))

  def get_state(self) -> dict[str, Any]:
    return self._state

  state = get_state

  def set_state(self, state: dict[str, Any]) -> None:
    self._drain()
    self._host.set_state(state)
    self._state = state

  def close(self) -> None:
    if not self._closed:
      for future in self._pending:
        future.cancel()
      self._worker.shutdown()
      self._host.close()
    super().close()

  def _drain(self) -> None:
    for future in self._pending:
      future.cancel()
    futures.wait(self._pending)
    self._pending.clear()

  def _load(self):
    """Loads (batch on device, state after it); None at the end."""
    batch = next(self._host, None)
    if batch is None:
      return None
    return jax.tree.map(self._put, batch), self._host.get_state()

  def _put(self, local: np.ndarray) -> jax.Array:
    return jax.make_array_from_process_local_data(self._sharding, local)


def device_iterator(
  iterator: grain.DatasetIterator, sharding: jax.sharding.Sharding, depth: int = 2
) -> DeviceIterator:
  """Wraps a pipeline so that its batches arrive on device.

  Args:
    iterator: yields this process's rows as numpy arrays; see `pipeline`.
    sharding: sharding of the leading axis of every array of a batch, such as
      NamedSharding(mesh, P("data")).
    depth: number of batches on the device or on their way there.
  """
  if depth < 1:
    raise ValueError(f"depth: expected >= 1, found {depth}")
  return DeviceIterator(iterator, sharding, depth)
