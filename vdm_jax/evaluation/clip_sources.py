"""Sources of clips to measure: a run, samples, a data set, videos or features.

A source is named by a string:

    DIR            a folder that `vdm-jax sample` wrote; a run, which is sampled; or a
                   folder of videos (or of folders of pictures)
    FILE.safetensors   an export, which is sampled like a run
    NAME[:SPLIT]   a built data set, like moving_digits/16px_1digit_8frames:test
    FILE.npz       features [N, D] of the user's own network, as array `features`
"""

import dataclasses
import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vdm_jax import run_data, sampling
from vdm_jax.data import decode, folder, video
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import samples
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.storage import weights_file

_AT_A_TIME = 16  # Batch size when a run is sampled.
_RATE_FRAMES = 17  # Frames from which a video's frame rate is estimated.


@dataclasses.dataclass(frozen=True)
class Source:
  """Videos of one origin.

  Attributes:
    name: name by which the user asked for it.
    kind: 'samples', 'run', 'data', 'videos' or 'features'.
    count: number of videos.
    context: number of frames at the start that were given to a model; 0 if real.
    fps: frames per second, of the first video if they differ; 0 if unknown.
    identity: string that changes whenever the videos may have changed.
    read: function that returns the video of a number, uint8 [T, H, W, C].
    shape: shape of the first video, if known without making or decoding it.
    given: number of frames up to the last one that was given; more than `context` if
      some of those were not.
    features: float [N, D], instead of videos.
  """

  name: str
  kind: str
  count: int
  context: int
  fps: float
  identity: str
  read: Callable[[int], np.ndarray] | None = None
  features: np.ndarray | None = None
  shape: tuple[int, ...] | None = None
  given: int = 0

  def first_shape(self) -> tuple[int, ...]:
    """Finds the shape (T, H, W, C) of the first video."""
    return self.shape or self.read(0).shape

  def describe(self) -> dict[str, Any]:
    """Describes the source for a result."""
    fields = ("name", "kind", "count", "context", "fps", "identity")
    return {field: getattr(self, field) for field in fields}


def open_source(
  name: str,
  *,
  argument: str,
  count: int = 0,
  fps: float = 0.0,
  size: int = 0,
  seed: int = 0,
  data_dir: str = "",
  options: Mapping[str, Any] | None = None,
) -> Source:
  """Opens a source.

  Args:
    name: see the module's text.
    argument: what the user named it by, for errors.
    count: videos at most; 0 for all. A run makes so many, and wants it.
    fps: rate at which a folder of videos is read; 0 is their own.
    size: height and width to which a folder of videos is fitted; 0 keeps their own.
    seed: seed of a run's noise.
    data_dir: folder of the data sets.
    options: sampling options of a run.

  Raises:
    UserError: there is no such source, or it is empty.
  """
  if not name:
    raise UserError(f"`{argument}`: expected a folder, a data set or features (.npz)")
  path, asked = epath.Path(name), f"`{argument}={name}`"
  if name.endswith(".npz"):
    found = _features(path, asked)
  elif (path / "record.json").exists():
    found = _samples(name)
  elif (path / "checkpoints").exists() or (weights_file.is_one(path) and path.exists()):
    found = _run(name, asked, count, seed, options or {})
  elif path.is_dir():
    found = _films(path, asked, fps, size)
  elif path.exists():
    raise UserError(f"{asked}: expected a folder, found a file")
  else:
    found = _data(name, asked, data_dir)
  if not found.count:
    raise UserError(f"{asked}: holds no videos")
  if count and found.count > count:
    features = None if found.features is None else found.features[:count]
    found = dataclasses.replace(found, count=count, features=features)
  return found


def _features(path: epath.Path, asked: str) -> Source:
  if not path.exists():
    raise UserError(f"{asked}: no such file")
  data = path.read_bytes()
  try:
    with np.load(io.BytesIO(data)) as archive:
      features, held = archive.get("features"), sorted(archive)
  except (ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
    raise UserError(f"{asked}: not an .npz of numbers, or damaged") from error
  if features is None:
    raise UserError(f"{asked}: expected an array 'features', found {held}")
  shape = f"{features.dtype} {features.shape}"
  if features.ndim != 2 or len(features) < 2 or features.dtype.kind not in "fiu":
    raise UserError(
      f"{asked}: expected features [N >= 2, D] of real numbers, found {shape}"
    )
  wrong = int((~np.isfinite(features)).sum())
  if wrong:
    raise UserError(
      f"{asked}: expected finite features, found {shape} with {wrong} not finite"
    )
  digest = hashlib.sha256(data).hexdigest()[:16]
  return Source(str(path), "features", len(features), 0, 0.0, digest, features=features)


def _samples(name: str) -> Source:
  found = samples.load(name)
  # Frames may be given anywhere: those of the context are the first ones.
  context = int(np.cumprod(found.observed).sum())
  text = json.dumps(dict(found.record), sort_keys=True, default=str)
  return Source(
    name,
    "samples",
    len(found.videos),
    context,
    0.0,
    _hash(text, found.videos.tobytes()),
    read=found.videos.__getitem__,
    shape=found.videos.shape[1:],
    given=int(np.flatnonzero(found.observed).max(initial=-1)) + 1,
  )


def _run(name, asked, count, seed, options) -> Source:
  if not count:
    raise UserError(f"{asked}: a run: say how many videos to sample")
  if jax.process_count() > 1:  # They share clips; sampling shares videos among them.
    raise UserError(
      f"{asked}: a run is sampled here in one process alone; sample it first "
      "(`vdm-jax sample --distributed`) and name that folder"
    )
  model = sampling.load(name)
  system, context = model.system, model.system.min_given
  length = max(system.window, context + 1)
  given = None
  if context:
    config = model.info["config"]
    given = run_data.given_clips(config, system, "test", count, range(context))
    given = to_float(given)
  made: dict[int, np.ndarray] = {}

  def read(number: int) -> np.ndarray:
    batch = number // _AT_A_TIME
    if batch not in made:
      made.clear()
      first = batch * _AT_A_TIME
      videos = min(_AT_A_TIME, count - first)
      made[batch] = to_uint8(
        model.sample(
          videos,
          # The videos that `sample` makes of this seed, however many there are.
          draws=[(seed, first + number) for number in range(videos)],
          length=length,
          given=None if given is None else given[first : first + videos],
          **options,
        )
      )
    return made[batch][number % _AT_A_TIME]

  about = {
    "config": model.info["config"],
    "step": model.info["step"],
    "ema": model.info["ema"],
    "draws": ["seed", "number", seed],
    "count": count if context else None,
    "options": dict(options),
  }
  identity = _hash(json.dumps(about, sort_keys=True, default=str))
  shape = (length, *system.frame_shape)
  return Source(name, "run", count, context, 0.0, identity, read=read, shape=shape)


def _data(name: str, asked: str, data_dir: str) -> Source:
  dataset, _, split = name.partition(":")
  try:
    sources.ensure_built(dataset, data_dir or None)
    source = sources.load(dataset, data_dir or None, split or "test")
  except UserError as error:
    raise UserError(f"{asked}: no such folder, and: {error}") from error

  def read(number: int) -> np.ndarray:
    return source.read(number, np.arange(source.lengths[number]))

  rates = np.unique(source.fps)
  fps = float(rates[0]) if len(rates) == 1 else 0.0
  shape = (int(source.lengths[0]), *source.frame_shape) if source.num_videos else None
  return Source(
    name, "data", source.num_videos, 0, fps, source.fingerprint, read=read, shape=shape
  )


def _films(path: epath.Path, asked: str, fps: float, size: int) -> Source:
  found = folder.find(path, decode.VIDEO_SUFFIXES)
  if not found:
    found = sorted(
      entry
      for entry in path.iterdir()
      if entry.is_dir() and any(decode.is_picture(file) for file in entry.iterdir())
    )
  if not found:
    raise UserError(
      f"{asked}: expected videos ({', '.join(decode.VIDEO_SUFFIXES)}), folders "
      "of pictures, samples or a run, found none of them"
    )

  def read(number: int) -> np.ndarray:
    return video.read_video(found[number], size=size or None, fps=fps)

  rate = fps or _rate(found[0])
  facts = [(str(f.relative_to(path)), f.stat().length, f.stat().mtime) for f in found]
  identity = _hash(json.dumps([facts, fps, size]))
  return Source(str(path), "videos", len(found), 0, rate, identity, read=read)


def _rate(film: epath.Path) -> float:
  """Estimates frames per second at a video's start; 0 for folders of pictures."""
  if film.is_dir():
    return 0.0
  frames = decode.decode(film, size=(8, 8))
  steps = np.diff([time for time, _ in itertools.islice(frames, _RATE_FRAMES)])
  step = float(np.median(steps)) if len(steps) else 0.0
  return round(1 / step, 2) if step > 0 else 0.0


def _hash(text: str, data: bytes = b"") -> str:
  return hashlib.sha256(text.encode() + data).hexdigest()[:16]
