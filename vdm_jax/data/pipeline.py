"""The input pipeline, from a data set and a task to numpy batches.

    shuffle -> repeat -> batch (of video numbers) -> rows of this process -> read

Batches are formed while an example is still the number of a video, and only then does
each process read its own rows. So the global batch, its order and the iterator's state
are the same for any number of processes, and no process reads frames of others. What is
drawn for an example depends only on (seed, position in the global stream).

Each local batch is read with one call, which reads only the frames that the task
selected.
"""

import dataclasses
from collections.abc import Sequence

import grain
import numpy as np

from vdm_jax.data import captions as captions_lib
from vdm_jax.data import examples
from vdm_jax.data.source import VideoSource
from vdm_jax.errors import UserError
from vdm_jax.tasks import task as task_lib

_PREFETCH_BYTES = 256 << 20
_TRAINING, _EVALUATION = 0, 1  # Equal seeds must not give equal draws.


def make_pipeline(
  source: VideoSource,
  task: task_lib.Task,
  *,
  batch_size: int,
  seed: int,
  rows: Sequence[int] | None = None,
  shuffle: bool = True,
  repeat: bool = True,
  num_threads: int = 4,
  prefetch_bytes: int = _PREFETCH_BYTES,
  cond: Sequence[str] = (),
  captions: captions_lib.StoredCaptions | None = None,
  extras: Sequence[str] = (),
) -> grain.DatasetIterator[examples.Batch]:
  """Makes batches of training examples, without end by default.

  Args:
    source: source of the videos.
    task: task that draws the frames of an example.
    batch_size: examples of the global batch, over all processes.
    seed: seed of the order of the videos and of everything that the task draws.
    rows: the rows of the global batch that this process takes, see `local_rows`;
      default all of them.
    shuffle: whether every epoch has its own order.
    repeat: whether to repeat; False stops after one epoch, without an incomplete batch.
    num_threads: number of batches read at the same time; 0 reads on demand.
    prefetch_bytes: memory for batches that are read ahead.
    cond: signals that condition the model; see `examples.COND`.
    captions: embedded captions of the split; needed for "tokens".
    extras: per-frame extras of the data set to deliver.

  Returns:
    An iterator of batches `{"video": uint8 [B, T, H, W, C], "frames": Frames,
    "cond": {...}}` of numpy arrays, where B counts the rows of this process; with
    `extras` also `{"extras": {name: [B, T, ...]}}`. `get_state()` is a small JSON
    value, the same on all processes, and `set_state()` resumes exactly; grain's
    `CheckpointSave/Restore` work.

  Raises:
    UserError: no video is long enough, or an argument does not fit the data.
  """
  if batch_size < 1:
    raise UserError(f"`batch_size={batch_size}`: expected >= 1")
  key = (seed, _TRAINING)
  reader = examples.Reader(source, task, key, cond, captions, extras)
  rows = range(batch_size) if rows is None else rows
  videos = grain.MapDataset.source(_Numbers(len(reader.eligible))).seed(seed)
  if shuffle:
    videos = videos.shuffle()
  if repeat:
    videos = videos.repeat(None)
  elif len(videos) < batch_size:
    raise UserError(
      f"{source.full_name}: an epoch of {len(videos)} videos has no full batch of"
      f" {batch_size}"
    )
  batches = videos.batch(batch_size, drop_remainder=True)
  batches = batches.map_with_index(_Rows(reader, np.asarray(rows), batch_size))
  return _iterate(batches, reader, len(rows), num_threads, prefetch_bytes)


def make_evaluation(
  source: VideoSource,
  task: task_lib.Task,
  *,
  batch_size: int,
  num_examples: int,
  seed: int = 0,
  rows: Sequence[int] | None = None,
  num_threads: int = 4,
  prefetch_bytes: int = _PREFETCH_BYTES,
  cond: Sequence[str] = (),
  captions: captions_lib.StoredCaptions | None = None,
  extras: Sequence[str] = (),
) -> grain.DatasetIterator[examples.Batch]:
  """Passes once over a fixed set of examples, the same at every call.

  Examples are spread evenly over the videos, and the window of example i depends only
  on (seed, i), not on the batch size, the processes or the progress of training.

  The last batch is filled up with repeats of the last example, so that all batches have
  one shape: every batch has `"valid": bool [B]`, False for repeats, as a weight. The
  other arguments, and the batches, are those of `make_pipeline`.
  """
  for name, value in (("batch_size", batch_size), ("num_examples", num_examples)):
    if value < 1:
      raise UserError(f"`{name}={value}`: expected >= 1")
  reader = examples.Reader(source, task, (seed, _EVALUATION), cond, captions, extras)
  rows = range(batch_size) if rows is None else rows
  filled = -(-num_examples // batch_size) * batch_size
  numbers = grain.MapDataset.source(_Numbers(filled)).batch(batch_size)
  local = _EvaluationRows(reader, np.asarray(rows), num_examples)
  return _iterate(numbers.map(local), reader, len(rows), num_threads, prefetch_bytes)


def local_rows(sharding, batch_size: int) -> np.ndarray:
  """Lists the rows of a global batch that this process's devices hold, sorted.

  This holds for any mesh, even if processes share rows or if the order of devices is
  not that of processes. `make_array_from_process_local_data` expects these rows.
  """
  spans = sharding.addressable_devices_indices_map((batch_size,)).values()
  rows = [np.arange(batch_size)[index] for index in spans]
  return np.unique(np.concatenate(rows))


def _iterate(batches, reader, local_size, num_threads, prefetch_bytes):
  # An element is a batch here, so grain's default buffer would hold 500 batches.
  ahead = prefetch_bytes // max(1, local_size * reader.example_bytes)
  options = grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=int(np.clip(ahead, 1, 64))
  )
  return iter(batches.to_iter_dataset(options))


class _Numbers:
  """The numbers 0 to n - 1 as a data source, without storing them."""

  def __init__(self, n: int):
    self._n = n

  def __len__(self) -> int:
    return self._n

  def __getitem__(self, index: int) -> int:
    return int(index)


@dataclasses.dataclass(frozen=True)
class _Rows:
  """Reads the rows of this process from a global batch of numbers."""

  reader: examples.Reader
  rows: np.ndarray
  batch_size: int

  def __call__(self, index: int, numbers: np.ndarray) -> examples.Batch:
    positions = index * self.batch_size + self.rows
    return self.reader.read(numbers[self.rows], positions)


@dataclasses.dataclass(frozen=True)
class _EvaluationRows:
  """Reads the rows of this process for evaluation, where numbers are of examples."""

  reader: examples.Reader
  rows: np.ndarray
  num_examples: int

  def __call__(self, numbers: np.ndarray) -> examples.Batch:
    wanted = numbers[self.rows]
    positions = np.minimum(wanted, self.num_examples - 1)
    videos = len(self.reader.eligible)
    own = positions % videos
    if self.num_examples < videos:
      own = positions * videos // self.num_examples
    batch = self.reader.read(own, positions)
    return batch | {"valid": wanted < self.num_examples}
