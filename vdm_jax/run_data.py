"""The data of a run: splits, clips and captions, checked against its system."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdm_jax import systems
from vdm_jax.data import captions, text
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError


def open_split(
  config: Mapping[str, Any], system: systems.System, split: str
) -> sources.VideoSource:
  """Opens a split of the config's data set and checks it against the system.

  Raises:
    UserError: it is not built, or its frames or labels do not fit the model.
  """
  data = config["data"]
  source = sources.load(data["name"], data["data_dir"] or None, split, pool=_pool(data))
  if tuple(source.frame_shape) != tuple(data["frame_shape"]):
    raise UserError(
      f"config.data.frame_shape: {tuple(data['frame_shape'])}, but frames of "
      f"{source.full_name} are {tuple(source.frame_shape)}"
    )
  labels = system.cond.num_labels
  if labels and source.num_labels != labels:
    raise UserError(
      f"config.model.num_labels: {labels}, but {source.full_name} has "
      f"{source.num_labels} labels"
    )
  return source


def open_named(
  config: Mapping[str, Any], split: str, *, name: str = "", data_dir: str = ""
) -> sources.VideoSource:
  """Opens a split of any data set, built first if it is generated.

  Frames of the config's own data set are averaged as in training (`data.pool`), those
  of another one are read as they are.

  Args:
    config: the model's config.
    split: name of the split.
    name: name of the data set; '' for that of the config.
    data_dir: folder of the data sets; '' for that of the config.

  Raises:
    UserError: there is no such data set or split.
  """
  data = config["data"]
  name, data_dir = name or data["name"], data_dir or data["data_dir"] or None
  sources.ensure_built(name, data_dir)
  pool = _pool(data) if name == data["name"] else 1
  return sources.load(name, data_dir, split, pool=pool)


def _pool(data: Mapping[str, Any]) -> int:
  # Configs of older runs lack the field.
  return data.get("pool", 0) or 1


def given_clips(
  config: Mapping[str, Any],
  system: systems.SamplingSystem,
  split: str,
  count: int,
  places: Sequence[int],
) -> np.ndarray:
  """Reads the frames at `places` of the first `count` videos of a split.

  Args:
    config: the model's config.
    system: the system built from it.
    split: name of a split of the config's data set.
    count: number of videos N.
    places: T0 frame numbers, in steps of the system's stride.

  Returns:
    uint8 [N, T0, H, W, C].

  Raises:
    UserError: the split has fewer videos, or one of them fewer frames.
  """
  source = open_split(config, system, split)
  if count > source.num_videos:
    raise UserError(
      f"{count} videos to start from: {source.full_name} {split} has "
      f"{source.num_videos}"
    )
  index = np.asarray(places) * system.stride
  for video in range(count):
    if index.max() >= source.lengths[video]:
      raise UserError(
        f"given frames up to {index.max()}: video {source.name(video)} of "
        f"{source.full_name} {split} has {source.lengths[video]} frames"
      )
  found = source.read_many([(video, index) for video in range(count)])
  return np.stack([clip["frames"] for clip in found])


def text_encoder(info: Mapping[str, Any]) -> text.TextEncoder | None:
  """Makes the caption encoder that a model was trained with, if any.

  Args:
    info: description of the model, see `sampling.load`.

  Raises:
    UserError: there is no such encoder here, or its weights differ.
  """
  config = info["config"]
  if not config["model"].get("token_dim", 0):
    return None
  data = config["data"]
  encoder = text.make_encoder(data["text_encoder"], data["max_tokens"])
  _check_width(config, encoder.dim)
  # Older runs have not stored the checksum.
  trained_with = info.get("text_checksum") or encoder.checksum
  if encoder.checksum != trained_with:
    raise UserError(
      f"text encoder {encoder.spec!r}: the model was trained with weights of checksum "
      f"{trained_with}, found {encoder.checksum}"
    )
  return encoder


def stored_captions(
  config: Mapping[str, Any], source: sources.VideoSource
) -> captions.StoredCaptions | None:
  """Opens the embedded captions of a split, made first if missing; None without text.

  Raises:
    UserError: there is no such encoder, or its width is not the model's.
  """
  if not config["model"].get("token_dim", 0):
    return None
  data = config["data"]
  stored = captions.ensure(source, data["text_encoder"], data["max_tokens"])
  _check_width(config, stored.dim)
  return stored


def _check_width(config: Mapping[str, Any], found: int) -> None:
  width = config["model"]["token_dim"]
  if width != found:
    raise UserError(
      f"config.model.token_dim: {width}, but {config['data']['text_encoder']} gives "
      f"{found}"
    )


def sampling_command(config: Mapping[str, Any], workdir: str) -> str:
  """Returns the shell command that samples a run; '' if its system samples no videos.

  Raises:
    UserError: frames to start from are needed, and the data set cannot be opened.
  """
  system = systems.build(config)
  if not system.can_sample:
    return ""
  count, given, words = 8, system.min_given, []
  if given:
    split = held_out_split(config)
    count = min(count, open_split(config, system, split).num_videos)
    words = [f"--split={split}", f"--num_obs={given}"]
  words = ["vdm-jax", "sample", f"--workdir={workdir}", *words, f"--num_videos={count}"]
  return shlex.join([*words, f"--out={workdir.rstrip('/')}_samples"])


def splits(config: Mapping[str, Any]) -> list[str]:
  """Lists the splits of the config's data set."""
  data = config["data"]
  return sources.splits(sources.locate(data["name"], data["data_dir"] or None))


def held_out_split(config: Mapping[str, Any]) -> str:
  """Names the split of the config's data set that training sees least of."""
  found = splits(config)
  return next(s for s in ("validation", "test", "train") if s in found)
