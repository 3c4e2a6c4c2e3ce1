"""Ensembles of continuations, from a model or from folders of samples."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm
from etils import epath

from vdm_jax import key_values, processes, run_data, sampling
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol, samples
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import model as loaded
from vdm_jax.storage.unfinished import Unfinished


class Clip(NamedTuple):
  """A clip with its ensemble.

  Attributes:
    truth: the true clip, uint8 [T, H, W, C], context included.
    members: its continuations, uint8 [S, T, H, W, C], context included.
  """

  truth: np.ndarray
  members: np.ndarray


@dataclasses.dataclass(frozen=True)
class EnsembleProtocol:
  """Settings that are common to the protocols that measure ensembles."""

  workdir: str = protocol.setting("", "run or export whose model continues the clips")
  samples: tuple[str, ...] = protocol.setting(
    (), "folders of samples instead of a run, one per member, with different seeds"
  )
  data: str = protocol.setting("", "data set; default that of the run")
  data_dir: str = protocol.setting("", "folder of the data sets; default the run's")
  split: str = protocol.setting("test", "split whose first clips are continued")
  num_clips: int = protocol.setting(64, "number of clips; 0: all")
  members: int = protocol.setting(8, "number of continuations of each clip")
  num_context: int = protocol.setting(4, "number of given frames at the start")
  num_frames: int = protocol.setting(
    0, "number of frames per clip, context included; 0: the model's window"
  )
  ema: str = protocol.setting(
    "", "rate of the average of the weights; default the first"
  )
  step: int = protocol.setting(0, "step of the checkpoint; 0: the newest")
  seed: int = protocol.setting(0, "seed of the noise")
  batch_size: int = protocol.setting(16, "number of members sampled at a time")
  plan: str = protocol.setting("", "sampling plan; default the config's")
  sampling: tuple[str, ...] = protocol.setting(
    (), "sampling settings as KEY=VALUE, such as steps=50"
  )


@dataclasses.dataclass(frozen=True)
class Ensembles:
  """Clips and their continuations.

  Attributes:
    title: header of the model's column.
    count: number of clips.
    members: number of continuations of each clip.
    context: number of given frames.
    clip: function that returns the clip of a number.
    origin: where they come from, JSON-serialisable, part of the result.
  """

  title: str
  count: int
  members: int
  context: int
  clip: Callable[[int], Clip]
  origin: dict[str, Any]


def of(settings: EnsembleProtocol) -> Ensembles:
  """Opens the ensembles that the settings name.

  Raises:
    UserError: both a run and samples are named, or neither; a number is too small; or
      as for `from_run` and `from_folders`.
  """
  if bool(settings.workdir) == bool(settings.samples):
    raise UserError("expected `workdir=RUN` or `samples=DIR`, one of them")
  protocol.check_least(
    settings, members=1, num_context=1, num_clips=0, num_frames=0, batch_size=1, step=0
  )
  return from_folders(settings) if settings.samples else from_run(settings)


def from_run(settings: EnsembleProtocol) -> Ensembles:
  """Opens continuations by a model, which are sampled when they are needed.

  Raises:
    UserError: the model, the data and the settings do not fit each other.
  """
  model = sampling.load(
    settings.workdir, ema=settings.ema or None, step=settings.step or None
  )
  loaded.check_same([model])
  system, context = model.system, settings.num_context
  length = settings.num_frames or system.window
  if length <= context:
    raise UserError(
      f"`num_frames={length}`: expected more than the {context} given frames"
    )
  source = _source(settings, model.info["config"])
  if tuple(source.frame_shape) != tuple(system.frame_shape):
    raise UserError(
      f"frames of {source.full_name} are {tuple(source.frame_shape)}, the model's "
      f"{tuple(system.frame_shape)}"
    )
  places = np.arange(length) * system.stride
  videos = _fitting(source, places[-1] + 1, settings.num_clips)
  options = key_values.parse(settings.sampling, "sampling")

  # If the members of a clip do not fill a batch, several clips share it.
  together = max(min(settings.batch_size // settings.members, len(videos)), 1)
  ready: dict[int, Clip] = {}

  def clip(number: int) -> Clip:
    if number not in ready:
      # The last batch is filled up with repeats, so that one compiled shape serves all.
      numbers = np.minimum(np.arange(number, number + together), len(videos) - 1)
      truths = np.stack([source.read(int(videos[n]), places) for n in numbers])
      made = model.sample(
        together * settings.members,
        # Every clip has its own noise.
        draws=[
          (settings.seed + int(n), m) for n in numbers for m in range(settings.members)
        ],
        length=length,
        given=np.repeat(to_float(truths[:, :context]), settings.members, axis=0),
        given_frames=range(context),
        plan=settings.plan or None,
        batch_size=settings.batch_size,
        **options,
      )
      made = to_uint8(made).reshape(together, settings.members, *made.shape[1:])
      ready.clear()
      ready.update(zip(map(int, numbers), map(Clip, truths, made), strict=True))
    return ready[number]

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


def from_folders(settings: EnsembleProtocol) -> Ensembles:
  """Opens continuations that were sampled before, one folder per member.

  Raises:
    UserError: the folders do not continue the same true frames, or repeat a sample; or
      the data set does not hold those frames to their end.
  """
  found = [samples.load(folder) for folder in settings.samples]
  samples.check_alike(found)
  first = found[0]
  context = int(first.observed.sum())
  if not context or not first.observed[:context].all():
    raise UserError(
      f"`samples={first.folder}`: expected samples that go on from their first frames, "
      f"found given frames {first.record.get('given_frames')}"
    )
  if context == len(first.observed):
    raise UserError(f"`samples={first.folder}`: every frame was given")
  given = first.record["given"]
  if not isinstance(given, dict):
    raise UserError(
      f"`samples={first.folder}`: started from {given!r}, not from videos of a data "
      "set: there is no truth to compare with"
    )
  for other in found[1:]:
    if other.record["given"] != given:
      raise UserError(
        f"`samples`: {first.folder} and {other.folder} go on from other videos"
      )
  seeds = [sample.record["seed"] for sample in found]
  if len(set(seeds)) < len(seeds):
    raise UserError(f"`samples`: members need seeds of their own, found {seeds}")
  settings = dataclasses.replace(
    settings, data=settings.data or given["data"], split=given["split"]
  )
  source = _source(settings, first.record["config"])
  places = np.arange(first.videos.shape[1]) * first.stride
  for sample in found:
    if len(sample.videos) != len(given["videos"]):
      raise UserError(
        f"`samples={sample.folder}`: expected {len(given['videos'])} videos, as many "
        f"as its record says they go on from, found {len(sample.videos)}"
      )
  count = min(settings.num_clips or len(first.videos), len(first.videos))
  _check_truth(first, source, given["videos"][:count], places[-1])

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


def scored(
  job: Ensembles,
  out: epath.Path,
  head: Mapping[str, Any],
  score: Callable[[int], Any],
  *,
  desc: str,
) -> Iterator[Any]:
  """Reads the scores of clips from OUT/clips/ and computes the missing ones.

  Several processes share the sampling of every clip, and all score it; the first one
  writes.

  Args:
    job: ensembles whose clips are scored.
    out: folder of the results.
    head: everything that the scores depend on, JSON-serialisable.
    score: function that scores the clip of a number, JSON-serialisable.
    desc: description of the progress bar.

  Raises:
    UserError: the folder holds scores of another job.
  """
  names = [f"clip_{number:05d}.json" for number in range(job.count)]
  first = processes.is_first()
  description = json.loads(protocol.as_json(head))
  if first:  # It makes the folder.
    Unfinished(out / "clips", description)
  processes.wait("folder of clips")
  done = Unfinished(out / "clips", description)
  # Before the first one writes, so that all of them score the same clips.
  found = [done.read(name) for name in names]
  processes.wait("scores read")
  bar = tqdm.trange(job.count, desc=desc, unit="clip", disable=None if first else True)
  for number in bar:
    if (text := found[number]) is None:
      text = protocol.as_json(score(number)).encode()
      if first:
        done.write(names[number], text)
    yield json.loads(text)


def _source(settings: EnsembleProtocol, config) -> sources.VideoSource:
  return run_data.open_named(
    config, settings.split, name=settings.data, data_dir=settings.data_dir
  )


def _check_truth(
  sample: samples.Samples, source: sources.VideoSource, videos: Sequence[int], last: int
) -> None:
  """Raises UserError unless a data set holds the videos that samples go on from.

  Args:
    sample: samples of one of the folders.
    source: data set with the true videos.
    videos: numbers of those videos.
    last: number of the last frame that is needed of each.
  """
  asked, where = f"`samples={sample.folder}`", f"{source.full_name} {source.split}"
  shape = sample.videos.shape[2:]
  if shape != tuple(source.frame_shape):
    raise UserError(
      f"{asked}: frames are {shape}, those of {where} {tuple(source.frame_shape)}"
    )
  for video in videos:
    if not 0 <= video < source.num_videos:
      raise UserError(
        f"{asked}: go on from video {video}; {where} has {source.num_videos} videos"
      )
    if last >= source.lengths[video]:
      raise UserError(
        f"{asked}: expected true videos of {last + 1} frames or more, found "
        f"{source.lengths[video]} in video {video} of {where}"
      )


def _fitting(source, length: int, count: int) -> np.ndarray:
  """Finds the first `count` videos (0: all) of at least `length` frames."""
  videos = np.flatnonzero(source.lengths >= length)
  if not len(videos) or len(videos) < count:
    raise UserError(
      f"`num_clips={count}`: {source.full_name} {source.split} has {len(videos)} "
      f"videos of {length} frames or more"
    )
  return videos[:count] if count else videos
