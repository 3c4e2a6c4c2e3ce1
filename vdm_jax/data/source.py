"""Random access to the frames of a built data set."""

import dataclasses
import functools
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from vdm_jax import errors, pixels
from vdm_jax.data import builders, records
from vdm_jax.errors import UserError

_VERSION = re.compile(r"\d+\.\d+\.\d+$")


class VideoSource:
  """The videos of one split of a data set.

  A read touches only the chunk records that hold the requested frames. Every process
  opens the record files at its first read, as a source pickles to the name of its
  directory. Reading from several threads is safe.
  """

  def __init__(self, directory: epath.PathLike, split: str, pool: int = 1):
    """Opens the metadata of `split` in a built data set's `directory`.

    Args:
      directory: directory of the data set.
      split: name of the split.
      pool: edge, in pixels, of blocks that are averaged when frames are read, for the
        first model of a cascade.

    Raises:
      UserError: nothing is built there, the layout is unknown, the split is missing, or
        frames are not divisible into such blocks.
    """
    self.directory = epath.Path(directory)
    self.split = split
    if not records.is_built(self.directory):
      raise UserError(f"{self.directory}: expected a built data set, found none")
    info = _open(self.directory).info
    self.dataset_name, self.config_name = info.name, info.config_name or ""
    self.version = str(info.version)
    self.metadata = dict(info.metadata or {})
    if self.metadata.get("layout") != records.LAYOUT:
      found = self.metadata.get("layout", "none")
      raise UserError(
        f"{self.directory}: expected record layout {records.LAYOUT!r}, found {found!r}"
      )
    if split not in self.metadata["splits"]:
      raise errors.unknown(f"split of {self.full_name}", split, self.metadata["splits"])
    table = self.metadata["splits"][split]
    self.lengths = np.asarray(table["lengths"], np.int64)
    self.labels = np.asarray(table["labels"], np.int32)
    self.fps = np.asarray(table["fps"], np.float64)
    self._captions, self._names = table["captions"], table["names"]
    self._chunk = int(self.metadata["chunk"])
    chunks = -(-self.lengths // self._chunk)
    self._first_record = np.cumsum(chunks) - chunks
    self._lock = threading.Lock()
    height, width, _ = self.metadata["frame_shape"]
    if pool < 1 or height % pool or width % pool:
      raise UserError(
        f"config.data.pool: {pool}, expected a number that divides the "
        f"{height}x{width} pixels of {self.full_name}"
      )
    self._pool = pool

  def __reduce__(self):
    return (VideoSource, (os.fspath(self.directory), self.split, self._pool))

  def __repr__(self) -> str:
    return f"VideoSource({self.full_name!r}, {self.split!r}, {self.num_videos} videos)"

  @property
  def full_name(self) -> str:
    """Returns data set and config, as `load` takes them."""
    return "/".join(filter(None, (self.dataset_name, self.config_name)))

  @property
  def num_videos(self) -> int:
    return len(self.lengths)

  @property
  def frame_shape(self) -> tuple[int, int, int]:
    """Returns (H, W, C) of every frame, as it is read."""
    height, width, channels = self.metadata["frame_shape"]
    return height // self._pool, width // self._pool, channels

  @property
  def label_names(self) -> list[str]:
    return list(self.metadata["label_names"])

  @property
  def num_labels(self) -> int:
    """Returns the number of classes over all splits; 0 if there are no labels."""
    tables = self.metadata["splits"].values()
    largest = max((label for table in tables for label in table["labels"]), default=-1)
    return max(len(self.metadata["label_names"]), largest + 1)

  @functools.cached_property
  def extras(self) -> dict[str, records.Extra]:
    """Returns the per-frame extras by name."""
    return {
      name: records.Extra(**spec) for name, spec in self.metadata["extras"].items()
    }

  def label(self, video: int) -> int:
    """Returns the class number of a video, -1 for none."""
    return int(self.labels[video])

  def caption(self, video: int) -> str:
    """Returns the caption of a video, "" for none."""
    return self._captions[video]

  def name(self, video: int) -> str:
    return self._names[video]

  @functools.cached_property
  def fingerprint(self) -> str:
    """Returns a hash of the data that is equal wherever the data set was built.

    It covers name, config, version, split and all metadata (options, lengths, labels,
    captions), but neither the location of the data nor the pixels.
    """
    identity = [
      self.dataset_name,
      self.config_name,
      self.version,
      self.split,
      self.metadata,
    ]
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def read(self, video: int, frames: np.ndarray) -> np.ndarray:
    """Reads frames of a video.

    Args:
      video: number of the video, 0 to num_videos - 1.
      frames: int [T] frame numbers, in any order and with repeats.

    Returns:
      uint8 [T, H, W, C].

    Raises:
      IndexError: a frame number lies outside the video.
    """
    return self.read_many([(video, frames)])[0]["frames"]

  def read_extra(self, video: int, name: str, frames: np.ndarray) -> np.ndarray:
    """Reads values [T, ...] of the extra `name` at `frames` of a video; see `read`.

    Raises:
      UserError: the data set has no such extra.
    """
    self.check_extra(name)
    return self.read_many([(video, frames)], (name,))[0][name]

  def check_extra(self, name: str) -> None:
    """Raises UserError if the data set has no extra called `name`."""
    if name not in self.extras:
      raise errors.unknown(f"extra of data set {self.full_name}", name, self.extras)

  def read_many(
    self,
    requests: Sequence[tuple[int, np.ndarray]],
    fields: Sequence[str] = ("frames",),
  ) -> list[dict[str, np.ndarray]]:
    """Reads from several videos at once, and each record only once.

    ArrayRecord starts new threads at every call, which takes longer than reading a
    short clip, so a batch is best read in one call.

    Args:
      requests: (video, frame numbers [T]) pairs.
      fields: "frames" and names of extras.

    Returns:
      For every request its fields, each [T, ...].

    Raises:
      IndexError: a frame number lies outside its video.
    """
    wanted = [self._keys(video, np.asarray(frames)) for video, frames in requests]
    keys = np.unique(np.concatenate([keys for keys, _ in wanted])).tolist()
    found = {}
    if keys:
      found = dict(zip(keys, self._records.__getitems__(keys), strict=True))
    results = []
    for keys, within in wanted:
      results.append({field: self._empty(field, len(keys)) for field in fields})
      for key in set(keys.tolist()):
        mine = keys == key
        for field, values in results[-1].items():
          taken = found[key][field][within[mine]]
          values[mine] = self._pooled(taken) if field == "frames" else taken
    return results

  def _pooled(self, frames: np.ndarray) -> np.ndarray:
    """Averages blocks of pixels of frames [T, ...], rounded."""
    if self._pool == 1:
      return frames
    height, width, _ = self.frame_shape
    return np.rint(pixels.average(frames, height, width)).astype(np.uint8)

  def _keys(self, video: int, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds (record, position within it) of every frame of a video."""
    length = self.lengths[video]
    if frames.size and not (frames.min() >= 0 and frames.max() < length):
      raise IndexError(
        f"{self.full_name} video {video}: frames 0 to {length - 1} exist, asked for"
        f" {frames.min()} to {frames.max()}"
      )
    return self._first_record[video] + frames // self._chunk, frames % self._chunk

  def _empty(self, field: str, length: int) -> np.ndarray:
    if field == "frames":
      return np.empty((length, *self.frame_shape), np.uint8)
    extra = self.extras[field]
    return np.empty((length, *extra.shape), extra.dtype)

  @functools.cached_property
  def _records(self):
    with self._lock:
      if "_records" in self.__dict__:  # Another thread has opened them.
        return self.__dict__["_records"]
      return _open(self.directory).as_data_source(split=self.split)


def default_data_dir() -> epath.Path:
  """Returns the folder of the data sets: $VDM_JAX_DATA, or ~/vdm_jax_data."""
  return epath.Path(os.environ.get("VDM_JAX_DATA") or "~/vdm_jax_data").expanduser()


def load(
  name: str,
  data_dir: epath.PathLike | None = None,
  split: str = "train",
  builder_kwargs: Mapping[str, Any] | None = None,
  pool: int = 1,
) -> VideoSource:
  """Opens a split of a data set that has been built.

  Args:
    name: name such as "moving_digits/16px_1digit_8frames" or "video_folder/my_clips".
    data_dir: folder of the data sets; `default_data_dir()` if None.
    split: "train", "validation" or "test".
    builder_kwargs: options of the builder, which replace or override the config name.
    pool: see `VideoSource`.

  Raises:
    UserError: it is not built (names the command that builds it), or a name is unknown.
  """
  directory = locate(name, data_dir, builder_kwargs)
  if not records.is_built(directory):
    raise UserError(
      f"data set {name!r} is not built in {_root(data_dir)}. Build it with:"
      f" {build_command(name, data_dir, builder_kwargs)}"
    )
  return VideoSource(directory, split, pool)


def ensure_built(
  name: str,
  data_dir: epath.PathLike | None = None,
  builder_kwargs: Mapping[str, Any] | None = None,
) -> None:
  """Builds a missing data set if it is embedded; others are left to the user.

  A data set is embedded if it is generated from files in installed packages.
  """
  if name.partition("/")[0] not in builders.BUILDERS:
    return
  cls, config = builders.parse(name, **(builder_kwargs or {}))
  if cls.EMBEDDED and not records.is_built(locate(name, data_dir, builder_kwargs)):
    records.build(cls, config, _root(data_dir))


def locate(
  name: str,
  data_dir: epath.PathLike | None = None,
  builder_kwargs: Mapping[str, Any] | None = None,
) -> epath.Path:
  """Finds the directory where a data set is built or would be built.

  A name that no builder has may still be a directory in the record layout, made
  elsewhere, of which the newest version is taken.
  """
  if name.partition("/")[0] in builders.BUILDERS:
    cls, config = builders.parse(name, **(builder_kwargs or {}))
    return _root(data_dir) / cls.name / config.name / str(cls.VERSION)
  versions = list(_versions(_root(data_dir) / name))
  if not versions:
    raise errors.unknown("data set", name, builders.BUILDERS)
  return max(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def splits(directory: epath.PathLike) -> list[str]:
  """Lists the splits of the data set built in `directory`."""
  return sorted(_open(directory).info.metadata["splits"])


def list_built(data_dir: epath.PathLike | None = None) -> list[epath.Path]:
  """Lists the directories of all finished data sets below `data_dir`, sorted."""
  root = _root(data_dir)
  if not root.exists():
    return []
  datasets = [path for path in root.iterdir() if path.is_dir()]
  configs = [path for parent in datasets for path in parent.iterdir() if path.is_dir()]
  return sorted(path for parent in datasets + configs for path in _versions(parent))


def build_command(
  name: str,
  data_dir: epath.PathLike | None = None,
  builder_kwargs: Mapping[str, Any] | None = None,
) -> str:
  """Returns the shell command that builds a data set."""
  dataset, _, config_name = name.partition("/")
  words = ["vdm-jax data build"]
  fields = dataclasses.fields(builders.builder_class(dataset).CONFIG)
  if any(field.name == "path" for field in fields):
    words += [dataset, "PATH"] + [f"--name={config_name}"] * bool(config_name)
  else:
    words.append(name)
  words += [f"--{key}={value}" for key, value in (builder_kwargs or {}).items()]
  if data_dir is not None:
    words.append(f"--data_dir={os.fspath(data_dir)}")
  return " ".join(words)


def _open(directory: epath.PathLike) -> tfds.core.DatasetBuilder:
  with records.quiet_tfds():
    return tfds.builder_from_directory(directory)


def _root(data_dir: epath.PathLike | None) -> epath.Path:
  return epath.Path(data_dir).expanduser() if data_dir else default_data_dir()


def _versions(parent: epath.Path) -> Iterator[epath.Path]:
  # Unfinished builds are in siblings called incomplete.*, which do not match.
  if parent.is_dir():
    for path in parent.iterdir():
      if _VERSION.match(path.name) and records.is_built(path):
        yield path
