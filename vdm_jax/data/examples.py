"""Training examples: frames drawn by a task, read and collected in a batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from vdm_jax import frames as frames_lib
from vdm_jax.data import captions as captions_lib
from vdm_jax.data.source import VideoSource
from vdm_jax.errors import UserError
from vdm_jax.tasks import task as task_lib

Batch = dict[str, Any]

# Signals that a batch may hold for each group: int32 class numbers; embeddings of the
# caption and their mask; int32 numbers of the videos in the data set.
COND = ("label", "tokens", "video")


class Reader:
  """Draws examples and reads a batch of them with one call.

  Attributes:
    eligible: int [N], numbers of the videos that are long enough for the task.
  """

  def __init__(
    self,
    source: VideoSource,
    task: task_lib.Task,
    key: tuple[int, int],
    cond: Sequence[str] = (),
    captions: captions_lib.StoredCaptions | None = None,
    extras: Sequence[str] = (),
  ):
    """Takes the arguments of `pipeline.make_pipeline`; `key` seeds all draws."""
    for name in cond:
      if name not in COND:
        raise UserError(f"cond: expected some of {', '.join(COND)}, found {name!r}")
    if "tokens" in cond and captions is None:
      raise UserError("cond 'tokens': expected embedded captions, found none")
    for name in extras:
      source.check_extra(name)
    self.source, self.task, self.captions = source, task, captions
    self.key = np.array([part % 2**64 for part in key], np.uint64)
    self.cond, self.extras = tuple(cond), tuple(extras)
    self.eligible = _eligible(source, task)

  @property
  def example_bytes(self) -> int:
    """Estimates the size of an example in a batch, in bytes."""
    size = self.task.num_frames * int(np.prod(self.source.frame_shape))
    if "tokens" in self.cond:
      tokens = self.captions.length * self.captions.dim
      size += self.task.num_sources * tokens * captions_lib.DTYPE.itemsize
    return size

  def read(self, numbers: np.ndarray, positions: np.ndarray) -> Batch:
    """Reads the batch of the examples at `positions` of the stream.

    Args:
      numbers: int [B], the eligible video of each example.
      positions: int [B], which seed the draws.
    """
    draws = [self._draw(*pair) for pair in zip(numbers, positions, strict=True)]
    requests, places = [], []
    for row, (videos, selection) in enumerate(draws):
      for k in np.unique(selection.source):
        slots = np.flatnonzero(selection.source == k)
        requests.append((videos[k], np.asarray(selection.index)[slots]))
        places.append((row, slots))
    found = self.source.read_many(requests, ("frames", *self.extras))
    batch = {
      "video": self._assemble("frames", found, places, draws),
      "frames": _stack_frames([selection for _, selection in draws]),
      "cond": self._condition([videos for videos, _ in draws]),
    }
    if self.extras:
      batch["extras"] = {
        name: self._assemble(name, found, places, draws) for name in self.extras
      }
    return batch

  def _draw(self, number: int, position: int):
    """Draws (videos [G], selection) of one example."""
    # A counter-based generator gives every position its own stream at no cost.
    counter = [0, 0, 0, int(position)]
    rng = np.random.Generator(np.random.Philox(key=self.key, counter=counter))
    # The other videos are distinct and uniform over the eligible ones without the
    # example's own: a draw without replacement from the numbers without that one.
    count = self.task.num_sources - 1
    others = rng.choice(len(self.eligible) - 1, count, replace=False) if count else []
    numbers = [number, *(other + (other >= number) for other in others)]
    videos = self.eligible[numbers]
    return videos, self.task.sample(rng, self.source.lengths[videos])

  def _assemble(self, field: str, found, places, draws) -> np.ndarray:
    first = found[0][field]
    shape = (len(draws), self.task.num_frames, *first.shape[1:])
    result = np.empty(shape, first.dtype)
    for values, (row, slots) in zip(found, places, strict=True):
      result[row, slots] = values[field]
    for row, (_, selection) in enumerate(draws):
      if selection.flip:
        result[row] = self._mirror(field, result[row])
    return result

  def _mirror(self, field: str, values: np.ndarray) -> np.ndarray:
    if field == "frames":
      return values[:, :, ::-1]
    mirror = self.source.extras[field].mirror
    if mirror is None:
      raise UserError(
        f"extra {field!r} of {self.source.full_name} has no meaning in a mirrored"
        " frame: switch the task's flip off"
      )
    scale, offset = (np.asarray(part, values.dtype) for part in mirror)
    return scale * values + offset

  def _condition(self, videos: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    cond = {}
    if "video" in self.cond:
      cond["video"] = np.stack(videos).astype(np.int32)
    if "label" in self.cond:
      cond["label"] = self.source.labels[np.stack(videos)]
    if "tokens" in self.cond:
      cond["tokens"], cond["token_mask"] = self.captions.read(np.stack(videos))
    return cond


def _eligible(source: VideoSource, task: task_lib.Task) -> np.ndarray:
  """Finds the numbers of the videos that are long enough for the task."""
  eligible = np.flatnonzero(source.lengths >= task.min_length)
  if not len(eligible):
    raise UserError(
      f"{source.full_name} {source.split}: the task needs videos of"
      f" {task.min_length} frames or more, the longest has {source.lengths.max()}"
    )
  if len(eligible) < task.num_sources:
    raise UserError(
      f"{source.full_name} {source.split}: the task draws from {task.num_sources}"
      f" different videos, only {len(eligible)} are long enough"
    )
  if left_out := source.num_videos - len(eligible):
    logging.warning(
      "%s %s: %d of %d videos are shorter than the %d frames the task needs; they are"
      " left out.", source.full_name, source.split, left_out, source.num_videos,
      task.min_length,
    )  # fmt: skip
  return eligible


def _stack_frames(selections: Sequence[task_lib.Selection]) -> frames_lib.Frames:
  def stack(field, dtype):
    return np.stack([getattr(s, field) for s in selections]).astype(dtype)

  return frames_lib.Frames(
    index=stack("index", np.int32),
    observed=stack("observed", bool),
    latent=stack("latent", bool),
    group=stack("group", np.int32),
  )
