"""A cascade of models, each of which makes the videos of the last longer or larger.

As in VDM, section 3.1, a model at frameskip 4 makes a video and one at frameskip 1 adds
the frames in between. A model of larger frames makes a video that, averaged to the
smaller size, is the smaller video; it also becomes longer if its frameskip is smaller.
Each stage is conditioned by guidance only, so that any unconditional model can serve.

`run` samples into a folder, stage after stage; `enlarge` is one stage.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import pixels, processes, seeds
from vdm_jax.data import video
from vdm_jax.errors import UserError
from vdm_jax.sampling import inputs, save
from vdm_jax.sampling.model import Model, digest
from vdm_jax.storage import checkpoint
from vdm_jax.systems import SamplingSystem

# Arguments of `Model.sample` for the first model of `run`, beside settings.
_ARGUMENTS = ("length", "given", "given_frames", "plan", "plan_options", "whole")
_SEEDS = 7919  # Distance between the seeds of stages: equal noise would correlate them.


def factors(below: SamplingSystem, above: SamplingSystem) -> tuple[int, int]:
  """Finds the factors of length and of frame size between two models of a cascade.

  Raises:
    UserError: frame rates or sizes are not divisible, or nothing becomes larger.
  """
  if below.stride % above.stride:
    raise UserError(
      f"cascade: frameskip {below.stride}, then {above.stride}: expected one that "
      "divides the one before (config.task.stride)"
    )
  space = pixels.times(above.frame_shape, below.frame_shape)
  small, large = ("x".join(map(str, s.frame_shape)) for s in (below, above))
  if not space:
    raise UserError(
      f"cascade: frames of {small}, then {large}: expected the same channels, and "
      "height and width multiplied by one whole number"
    )
  if space == 1 and below.stride == above.stride:
    raise UserError(
      f"cascade: two models of {small} at frameskip {below.stride}: the second makes "
      "nothing longer or larger"
    )
  return below.stride // above.stride, space


def length(model: Model, below: SamplingSystem, frames: int) -> int:
  """Counts the frames that a model makes out of `frames`.

  Raises:
    UserError: the models do not chain, or the frames are fewer than a window.
  """
  if model.system.windows.recurrent:
    raise UserError("cascade: a roll-out takes no frames between or below its own")
  found = frames * factors(below, model.system)[0]
  if found < model.system.window:
    raise UserError(
      f"cascade: {frames} frames become {found}, the next model's window has "
      f"{model.system.window}; sample more (`length`)"
    )
  return found


def enlarge(
  model: Model, below: SamplingSystem, videos: np.ndarray, stage: int, **options: Any
) -> np.ndarray:
  """Samples a longer or larger version of each video.

  The videos are given frames if the model's frames have the same size; otherwise they
  guide sampling as a low-resolution version of its videos.

  Args:
    model: model of this stage.
    below: system that made the videos.
    videos: float32 [N, T, h, w, C] in [-1, 1].
    stage: number of this stage, from 1 on.
    **options: arguments of `Model.sample`; `seed` is that of the whole cascade.

  Returns:
    float32 [N, T s, H, W, C], where s is the ratio of the frameskips. The paper's 16
    frames, for instance, become 64, of which the last three follow the last given one.

  Raises:
    UserError: the models do not chain, or the videos are shorter than a window.
  """
  frames = length(model, below, videos.shape[1])
  places = _places(model, below, frames)
  known = {"given": videos, "given_frames": places}
  if _grows(model, below):
    known = {"low_res": videos, "low_res_frames": places}
  seed = seeds.later(options.pop("seed", 0), _SEEDS * stage)
  return model.sample(len(videos), seed=seed, length=frames, **known, **options)


def check(
  models: Sequence[Model],
  num_videos: int,
  signals: Sequence[Mapping[str, Any]],
  settings: Mapping[str, Any],
  later: Mapping[str, Any],
  frames: int | None = None,
) -> None:
  """Checks all models of a cascade before the first one samples for hours.

  Args:
    models: models of the stages.
    num_videos: number of videos.
    signals: `label`, `tokens` and `negative_tokens` of each model.
    settings: settings of the first model that replace its config's.
    later: settings of the others that replace their configs'.
    frames: frames of the first model's videos; default its window.

  Raises:
    UserError: the models do not chain; a setting is unknown or invalid; a model does
      not take its signals; or a later one's plan cannot make its videos.
  """
  if num_videos < 1:
    raise UserError(f"`num_videos={num_videos}`: expected >= 1")
  if len(signals) != len(models):
    raise UserError(
      f"`signals`: expected those of {len(models)} models, found {len(signals)}"
    )
  _check_signals(models[0], num_videos, signals[0], settings)
  frames = frames or models[0].system.window
  for number, (below, model) in enumerate(itertools.pairwise(models), start=1):
    frames = length(model, below.system, frames)
    places = _places(model, below.system, frames)
    try:
      given = _later_signals(model, signals[number], later)
      _check_signals(model, num_videos, given, later)
      model.check_plan(frames, () if _grows(model, below.system) else places)
    except UserError as error:
      # What it names are not arguments of the caller's, and its flags neither.
      raise UserError(
        f"cascade, stage {number}: {str(error).replace('`', '')}"
      ) from None


def run(
  models: Sequence[Model],
  num_videos: int,
  out: epath.PathLike,
  *,
  signals: Sequence[Mapping[str, Any]] = (),
  later: Mapping[str, Any] | None = None,
  seed: int = 0,
  batch_size: int = 16,
  told: Mapping[str, Any] | None = None,
  fps: float = 8.0,
  progress: bool = False,
  written: Callable[[str, int, float], None] | None = None,
  **first: Any,
) -> np.ndarray:
  """Samples videos into a folder, by one model or by several, one after the other.

  The videos of each stage but the last are kept in `OUT/stage_N`. If the job is
  stopped, the same call resumes it, and ends with the same videos.

  Args:
    models: models of the stages, the one that makes the smallest videos first.
    num_videos: number of videos N.
    out: folder, which must not hold samples already; it is filled as by `save.save`.
    signals: `label`, `tokens` and `negative_tokens` of each model, as `Model.sample`
      takes them; default none. A later model without guidance does not take
      `negative_tokens`.
    later: settings of the models after the first, which replace their configs'.
    seed: seed of the noise; each stage draws its own from it.
    batch_size: videos at a time.
    told: what the records say of the inputs, instead of a hash of their arrays: texts
      under `caption` and `negative_caption`, the origin of given frames under `given`.
    fps: frames per second of the files.
    progress: whether to show a progress bar.
    written: called with folder, number of videos and seconds when the videos of a stage
      are on disk.
    **first: of the first model: `length`, `given`, `given_frames`, `plan`,
      `plan_options` and `whole`, as `Model.sample` takes them, and its settings.

  Returns:
    uint8 [N, T, H, W, C], the videos of the last model.

  Raises:
    UserError: the models do not chain or do not take the arguments, `fps` is no rate,
      `out` holds samples already, or a finished stage was made with other arguments.
  """
  save.check_free(out)
  video.check_rate(fps)
  later, told = dict(later or {}), dict(told or {})
  signals = [dict(given) for given in signals] or [{} for _ in models]
  settings = {key: first[key] for key in first.keys() - set(_ARGUMENTS)}
  check(models, num_videos, signals, settings, later, first.get("length"))
  signals[1:] = [
    _later_signals(model, given, later)
    for model, given in zip(models[1:], signals[1:], strict=True)
  ]
  videos, places = None, first.get("given_frames") or ()
  for number, (model, given) in enumerate(zip(models, signals, strict=True)):
    final = number == len(models) - 1
    folder = str(out) if final else f"{out}/stage_{number}"
    used = model.settings(_named(given), **(later if number else settings))
    record = save.describe(
      model,
      seed=seed,
      num_videos=num_videos,
      settings=dataclasses.asdict(used),
      label=given.get("label"),
      caption=_origin(told, "caption", given.get("tokens")),
      negative_caption=_origin(told, "negative_caption", given.get("negative_tokens")),
      **(_later(model, number) if number else _first(model, first, told)),
    )
    if not final and save.is_complete(folder):
      videos = _read(folder, record)
      continue
    start = time.perf_counter()
    shared = dict(
      seed=seed,
      batch_size=batch_size,
      progress=progress,
      unfinished=f"{folder}/{save.UNFINISHED}",
      **given,
    )
    if number:
      # As on disk, so that a stage that is read again leads to the same videos.
      below, known = models[number - 1].system, pixels.to_float(videos)
      sampled = enlarge(model, below, known, number, **shared, **later)
    else:
      sampled = model.sample(num_videos, **shared, **first)
    seconds = time.perf_counter() - start
    if processes.is_first():
      _write(folder, sampled, record, seconds, () if number else places, fps)
      if written is not None:
        written(folder, num_videos, seconds)
    processes.wait(f"{folder} is written")
    videos = pixels.to_uint8(sampled)
  return videos


def _places(model, below, frames) -> range:
  """Returns where the frames of the videos below are in a video of `frames`."""
  return range(0, frames, factors(below, model.system)[0])


def _grows(model, below) -> bool:
  """Tells whether the model's frames are larger than those below."""
  return factors(below, model.system)[1] > 1


def _later_signals(model, signals, later) -> dict[str, Any]:
  """Returns the signals that a later model takes: only guidance moves away from any."""
  kept = dict(signals)
  if not model.settings(_named(signals), **later).guidance:
    kept.pop("negative_tokens", None)
  return kept


def _check_signals(model, num_videos, signals, settings) -> None:
  """Checks the settings of a model, and its signals by them."""
  used = model.settings(_named(signals), **settings)
  inputs.cond(
    model.system,
    num_videos,
    signals.get("label"),
    signals.get("tokens"),
    used.guidance,
    signals.get("negative_tokens"),
  )


def _named(signals: Mapping[str, Any]) -> bool:
  """Tells whether there is a label or a caption to guide towards."""
  return signals.get("label") is not None or signals.get("tokens") is not None


def _first(model, first, told) -> dict[str, Any]:
  """Describes what the first model is given, for its record."""
  return {
    "length": first.get("length") or model.system.window,
    "plan": first.get("plan") or model.system.plan,
    "plan_options": first.get("plan_options") or {},
    "given": _origin(told, "given", first.get("given")),
    "given_frames": list(first.get("given_frames") or ()),
  }


def _later(model, number) -> dict[str, Any]:
  return {"plan": model.system.plan, "below": f"stage_{number - 1}"}


def _origin(told, name, arrays) -> Any:
  """Returns what the caller says of arrays, or else their hash; None for none."""
  if arrays is None:
    return None
  return told[name] if name in told else f"arrays {digest(arrays)}"


def _read(folder, record) -> np.ndarray:
  """Reads a finished stage's videos, uint8, if it was made as the record says."""
  found = save.read_record(folder)
  found = {key: found.get(key) for key in record}
  if changed := checkpoint.differences(found, save.as_written(record)):
    raise UserError(
      f"{folder}: made with other settings ({'; '.join(changed)}); choose another `out`"
    )
  return save.read(folder)


def _write(folder, videos, record, seconds, places, fps) -> None:
  """Writes a stage's videos, float, and their record."""
  captions = record["caption"] if isinstance(record["caption"], list) else None
  if (label := record["label"]) is not None:
    captions = [str(one) for one in np.broadcast_to(label, len(videos))]
  save.save(
    folder,
    videos,
    {**record, "length": videos.shape[1], "seconds_per_video": seconds / len(videos)},
    captions=captions,
    observed=np.isin(np.arange(videos.shape[1]), places),
    fps=fps,
  )
