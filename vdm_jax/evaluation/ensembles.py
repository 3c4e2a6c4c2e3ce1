"""Ensembles of continuations: of a model, or of folders of samples."""

import ast
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vdm_jax import sampling
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import samples
from vdm_jax.pixels import to_float, to_uint8


class Clip(NamedTuple):
  """A clip and its ensemble.

  Attributes:
    truth: uint8 [T, H, W, C], context included.
    members: uint8 [S, T, H, W, C].
  """

  truth: np.ndarray
  members: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ensembles:
  """Clips and what continues them.

  Attributes:
    title: heads the model's column.
    count: clips.
    members: of each.
    context: frames that are given.
    clip: the clip of a number.
    origin: JSON-able, part of the result.
  """

  title: str
  count: int
  members: int
  context: int
  clip: Callable[[int], Clip]
  origin: dict[str, Any]


def from_run(settings: Any) -> Ensembles:
  """Continuations by a model, sampled when they are asked for.

  Args:
    settings: of the protocol `forecast`.

  Raises:
    UserError: the model, the data and the settings do not fit each other.
  """
  model = sampling.load(
    settings.workdir, rate=settings.ema or None, step=settings.step or None
  )
  system, context = model.system, settings.num_context
  length = settings.num_frames or system.window
  if length <= context:
    raise UserError(
      f"--num_frames={length}: expected more than the {context} given frames"
    )
  source = _source(settings, model.info["config"])
  if tuple(source.frame_shape) != tuple(system.frame_shape):
    raise UserError(
      f"frames of {source.full_name} are {tuple(source.frame_shape)}, the model's "
      f"{tuple(system.frame_shape)}"
    )
  places = np.arange(length) * system.stride
  videos = _fitting(source, places[-1] + 1, settings.num_clips)
  options = sampling_options(settings.sampling)

  def clip(number: int) -> Clip:
    truth = source.read(int(videos[number]), places)
    made = model.sample(
      settings.members,
      # Another noise for every clip.
      seed=settings.seed + number,
      length=length,
      given=to_float(truth[:context]),
      given_frames=range(context),
      plan=settings.plan or None,
      batch_size=settings.batch_size,
      **options,
    )
    return Clip(truth, to_uint8(made))

  origin = {
    "data": source.full_name,
    "data_fingerprint": source.fingerprint,
    "system": model.info["config"]["system"],
    "checkpoint_step": model.info["step"],
    "ema": model.info["ema"],
    "frames": length,
    "sampling": dataclasses.asdict(model.settings(False, **options)),
  }
  return Ensembles("model", len(videos), settings.members, context, clip, origin)


def from_folders(settings: Any) -> Ensembles:
  """Continuations that were sampled before, a folder a member.

  Args:
    settings: of the protocol `forecast`.

  Raises:
    UserError: the folders do not go on from the same true frames, or are one sample.
  """
  found = [samples.load(folder) for folder in settings.samples]
  samples.check_alike(found)
  first = found[0]
  context = int(first.observed.sum())
  if not context or not first.observed[:context].all():
    raise UserError(
      f"--samples={first.folder}: expected samples that go on from their first frames, "
      f"found given frames {first.record.get('given_frames')}"
    )
  if context == len(first.observed):
    raise UserError(f"--samples={first.folder}: every frame was given")
  given = first.record["given"]
  if not isinstance(given, dict):
    raise UserError(
      f"--samples={first.folder}: started from {given!r}, not from videos of a data "
      "set: there is no truth to compare with"
    )
  for other in found[1:]:
    if other.record["given"] != given:
      raise UserError(
        f"--samples: {first.folder} and {other.folder} go on from other videos"
      )
  seeds = [sample.record["seed"] for sample in found]
  if len(set(seeds)) < len(seeds):
    raise UserError(f"--samples: members need seeds of their own, found {seeds}")
  settings = dataclasses.replace(
    settings, data=settings.data or given["data"], split=given["split"]
  )
  source = _source(settings, first.record["config"])
  places = np.arange(first.videos.shape[1]) * first.stride
  count = len(first.videos)
  if settings.num_clips:
    count = min(count, settings.num_clips)

  def clip(number: int) -> Clip:
    truth = source.read(given["videos"][number], places)
    return Clip(truth, np.stack([sample.videos[number] for sample in found]))

  origin = {
    "data": source.full_name,
    "data_fingerprint": source.fingerprint,
    "frames": len(places),
    "records": [dict(sample.record) for sample in found],
  }
  return Ensembles("samples", count, len(found), context, clip, origin)


def _source(settings: Any, config) -> sources.VideoSource:
  name = settings.data or config["data"]["name"]
  data_dir = settings.data_dir or config["data"]["data_dir"] or None
  sources.ensure_built(name, data_dir)
  return sources.load(name, data_dir, settings.split)


def _fitting(source, length: int, count: int) -> np.ndarray:
  """Numbers of the first `count` videos (0: all) of `length` frames or more."""
  videos = np.flatnonzero(source.lengths >= length)
  if not len(videos) or len(videos) < count:
    raise UserError(
      f"--num_clips={count}: {source.full_name} {source.split} has {len(videos)} "
      f"videos of {length} frames or more"
    )
  return videos[:count] if count else videos


def sampling_options(texts: Sequence[str]) -> dict[str, Any]:
  """Sampling settings written as KEY=VALUE.

  Raises:
    UserError: one is not.
  """
  options = {}
  for text in texts:
    key, equals, value = text.partition("=")
    if not equals:
      raise UserError(f"--sampling: expected KEY=VALUE, found {text!r}")
    options[key] = value
    with contextlib.suppress(ValueError, SyntaxError):
      options[key] = ast.literal_eval(value)
  return options
