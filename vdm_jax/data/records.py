"""The on-disk layout of all data sets: fixed-length chunks of frames.

A training example reads a few frames of a long video, so a video is stored as
consecutive chunks of `chunk` frames, one ArrayRecord record each: a read costs only the
chunks that it touches. A record is

    frames: uint8 [chunk, H, W, C]    raw bytes; the last chunk is zero-padded
    video:  int                       number of its video in the split
    start:  int                       frame number of its first frame
    <extra>: [chunk, ...]             one per named per-frame extra

and the facts of a whole video (length, label, caption, name, frames per second) are
columns of the data set's metadata. Records are written in order, video after video, so
that the lengths determine where every frame is.

A data set is a `ChunkBuilder` that yields `Video`s. TensorFlow is never imported.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
import tqdm
from absl import logging
from etils import epath
from tensorflow_datasets.core import dataset_builder, example_serializer, naming, splits

from vdm_jax.data import shards
from vdm_jax.errors import UserError

LAYOUT = "vdm_jax.chunks/1"
_FORMAT = "array_record"
COLUMNS = ("lengths", "labels", "captions", "names", "fps")
_RESERVED = ("frames", "video", "start")


@dataclasses.dataclass(frozen=True)
class Extra:
  """A named per-frame array that is stored with the frames.

  Attributes:
    shape: shape of one frame's value.
    dtype: its dtype.
    mirror: (scale, offset), each broadcastable to `shape`: the value of a frame
      mirrored left-right is `scale * value + offset`. None if unknown; then a pipeline
      that flips frames does not deliver this extra.
  """

  shape: tuple[int, ...] = ()
  dtype: str = "float32"
  mirror: tuple[Any, Any] | None = None


@dataclasses.dataclass
class Video:
  """One video to be stored in records.

  Attributes:
    frames: uint8 [T, H, W, C], or an iterable of uint8 [H, W, C].
    label: class number; -1 for none.
    caption: caption; "" for none.
    name: name for the user (a file name), unique within its split.
    fps: frames per second; 0 if unknown.
    extra: per-frame arrays [T, ...], one for every extra of the builder.
  """

  frames: np.ndarray | Iterable[np.ndarray]
  label: int = -1
  caption: str = ""
  name: str = ""
  fps: float = 0.0
  extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


def option(default: Any, help: str, *, stored: bool = True) -> Any:
  """Makes a `ChunkConfig` field that `vdm-jax data build` offers as a flag.

  Args:
    default: value if the flag is not given; its type is the flag's type.
    help: one line for `--help`.
    stored: whether the value is stored with the data; False for options that do not
      affect the records, such as a path.
  """
  return dataclasses.field(default=default, metadata={"help": help, "stored": stored})


@dataclasses.dataclass(eq=False)
class ChunkConfig(tfds.core.BuilderConfig):
  """Options of a builder, to which subclasses add their own by `option`."""

  name: str = ""
  # 8 measured best both for windows and for sparse reads.
  chunk: int = option(8, "frames per record")

  def options(self) -> dict[str, Any]:
    """Returns the options that affect the records, as JSON values."""
    inherited = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in inherited and field.metadata.get("stored", True)
    }


class ChunkBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):
  """Writes iterators of `Video` as chunk records; data sets override three methods.

  TFDS describes and reads the result but does not write it, as its writer first reads
  everything into memory.

  Class attributes:
    CONFIG: the `ChunkConfig` subclass with its options.
    EMBEDDED: whether it is generated without download or user files, so that training
      may build it by itself.
  """

  VERSION = tfds.core.Version("1.0.0")
  CONFIG: ClassVar[type[ChunkConfig]] = ChunkConfig
  EMBEDDED: ClassVar[bool] = False

  @classmethod
  def parse(cls, config_name: str, **options) -> ChunkConfig:
    """Makes the config of `config_name` and `options`, with its canonical name."""
    return cls.CONFIG(name=config_name, **options)

  def frame_shape(self) -> tuple[int, int, int]:
    """Returns (H, W, C) of every frame."""
    raise NotImplementedError

  def extras(self) -> Mapping[str, Extra]:
    """Returns the per-frame extras that every video has."""
    return {}

  def extra_metadata(self) -> Mapping[str, Any]:
    """Returns JSON values to store with the data set, such as a map."""
    return {}

  def videos(self) -> Mapping[str, Iterable[Video]]:
    """Returns the videos of every split; an empty split is left out."""
    raise NotImplementedError

  def label_names(self) -> list[str]:
    """Returns the names of labels 0, 1, ...; called after `videos()`."""
    return []

  def notes(self) -> list[str]:
    """Returns notes to the user for the end of the build, such as skipped videos."""
    return []

  def _info(self) -> tfds.core.DatasetInfo:
    chunk = self.builder_config.chunk
    features = {
      "frames": _tensor((chunk, *self.frame_shape()), np.uint8),
      "video": tfds.features.Scalar(np.int64),
      "start": tfds.features.Scalar(np.int64),
    }
    for name, extra in self.extras().items():
      if name in _RESERVED:
        raise ValueError(f"extra {name!r}: this name is taken")
      features[name] = _tensor((chunk, *extra.shape), np.dtype(extra.dtype))
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.__doc__,
      features=tfds.features.FeaturesDict(features),
      disable_shuffling=True,  # Lengths determine where a frame is.
      metadata=tfds.core.MetadataDict(
        **self.extra_metadata(),
        layout=LAYOUT,
        chunk=chunk,
        frame_shape=list(self.frame_shape()),
        extras={k: dataclasses.asdict(extra) for k, extra in self.extras().items()},
        options=self.builder_config.options(),
        label_names=[],
        splits={},
      ),
    )

  def _download_and_prepare(self, dl_manager, download_config=None):
    raise NotImplementedError("use vdm_jax.data.records.build")

  def write(self, workspace: shards.Workspace) -> None:
    """Writes all splits and their metadata into the workspace's folder.

    Raises:
      OSError: the data set cannot be written.
      UserError: there is no video to store.
    """
    self.workspace = workspace
    template = naming.ShardedFileTemplate(
      data_dir=workspace.folder, dataset_name=self.name, filetype_suffix=_FORMAT
    )
    serializer = example_serializer.ExampleSerializer(
      self.info.features.get_serialized_info()
    )
    infos = []
    for name, videos in self.videos().items():
      split = workspace.split(name)
      for video in videos:
        self._write_video(split, video, serializer)
      split.end()
      if not split.rows:  # Known only after reading.
        continue
      columns = map(list, zip(*split.rows, strict=True))
      table = dict(zip(COLUMNS, columns, strict=True))
      self.info.metadata["splits"][name] = table
      infos.append(
        splits.SplitInfo(
          name=name,
          shard_lengths=split.lengths,
          num_bytes=split.size,
          filename_template=template.replace(split=name),
        )
      )
    if not infos:
      workspace.folder.rmtree()  # There is nothing to resume.
      raise UserError(f"{self.name}/{self.builder_config.name}: no video to store")
    self.info.metadata["label_names"] = self.label_names()
    self.info.set_file_format(_FORMAT, override=True)
    self.info.set_splits(splits.SplitDict(infos))
    with shards.storing():
      for info in infos:
        workspace.split(info.name).rename(
          info.filename_template.sharded_filepaths(len(info.shard_lengths))
        )
      self.info.write_to_directory(workspace.folder)

  def _write_video(self, split: shards.Split, video: Video, serializer) -> None:
    length = 0

    def records() -> Iterator[bytes]:
      nonlocal length
      for frames in _chunks(video.frames, self.builder_config.chunk):
        record = self._record(len(split.rows), length, frames, video.extra)
        example = serializer.get_tf_example(self.info.features.encode_example(record))
        # Without this, the order of fields would depend on the process.
        yield example.SerializeToString(deterministic=True)
        length += len(frames)

    def row() -> tuple:
      for name, value in video.extra.items():
        if len(value) != length:
          raise ValueError(
            f"{video.name}: {length} frames but {len(value)} values of {name!r}"
          )
      return length, int(video.label), video.caption, video.name, float(video.fps)

    split.add(row, records())

  def _record(self, number: int, start: int, frames: np.ndarray, extra) -> dict:
    chunk = self.builder_config.chunk
    record = {"frames": _pad(frames, chunk), "video": number, "start": start}
    for name, spec in self.extras().items():
      values = np.asarray(extra[name][start : start + len(frames)], spec.dtype)
      record[name] = _pad(values, chunk)
    return record


def build(
  cls: type[ChunkBuilder],
  config: ChunkConfig,
  data_dir: epath.PathLike,
  *,
  overwrite: bool = False,
) -> epath.Path:
  """Builds a data set, if it does not exist yet, and returns its directory.

  It is written beside the final directory and renamed at the end, so that a killed
  build leaves nothing that looks like the data set; the same build resumes there. Of
  two builds at the same time, one waits.

  Raises:
    UserError: there is no video to store (then nothing is left behind), the name is
      taken by data that was built with other options, or the disk is full or read-only.
  """
  data_dir = epath.Path(data_dir).expanduser()
  with quiet_tfds():
    builder = cls(data_dir=data_dir, config=config)
  directory = epath.Path(builder.data_dir)
  aside = directory.parent / f"incomplete.{directory.name}"
  if is_built(directory) and not overwrite:
    _check_same_options(builder, config)
    return directory
  try:
    with shards.locked(directory.parent / f"incomplete.{directory.name}.lock"):
      if is_built(directory) and not overwrite:  # Another process built it.
        return build(cls, config, data_dir)
      with quiet_tfds():
        builder = cls(data_dir=aside, config=config)  # Must not read the old one.
      identity = {
        "layout": LAYOUT,
        "name": f"{builder.name}/{config.name}/{builder.version}",
        "options": config.options(),
        "frame_shape": builder.frame_shape(),
      }
      with shards.under_way(aside, identity) as workspace, quiet_tfds():
        builder.write(workspace)
      shards.replace(directory, aside)
  except shards.StorageError as error:
    raise UserError(
      f"{data_dir}: the data set cannot be written ({error}); once that is mended, the "
      "same command resumes"
    ) from error
  finally:
    shards.remove_empty(directory.parent, until=data_dir)
  for note in builder.notes():
    logging.warning("%s/%s: %s", builder.name, config.name, note)
  return directory


def is_built(directory: epath.PathLike) -> bool:
  """Returns whether `directory` holds a finished data set."""
  return (epath.Path(directory) / "dataset_info.json").exists()


def progress(
  items: Iterable, *, total: int, description: str, initial: int = 0
) -> Iterator:
  """Shows a bar with videos per second and the time left, in a terminal only.

  Args:
    items: the videos.
    total: number of videos, with those of an earlier build.
    description: text before the bar.
    initial: number of videos that an earlier build has finished.
  """
  bar = tqdm.tqdm(
    items,
    total=total,
    initial=initial,
    desc=description,
    unit="video",
    disable=None,
  )
  return iter(bar)


def _check_same_options(builder: ChunkBuilder, config: ChunkConfig) -> None:
  """Raises UserError if the data built under this name has other options."""
  built, asked = builder.info.metadata["options"], config.options()
  for name, value in asked.items():
    if built.get(name) != value:
      raise UserError(
        f"{builder.name}/{config.name} is built already, with {name}="
        f"{built.get(name)!r}, not {value!r}: use another name, or `overwrite=True`"
      )


@contextlib.contextmanager
def quiet_tfds():
  """Silences what TFDS logs for each directory that it reads."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.ERROR)
  try:
    yield
  finally:
    logging.set_verbosity(verbosity)


def _tensor(shape: tuple[int, ...], dtype) -> tfds.features.Tensor:
  # The default encoding stores uint8 as varints, which are 20 times slower to read.
  return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")


def _pad(values: np.ndarray, chunk: int) -> np.ndarray:
  """Pads `values` [t, ...] with zeros, to [chunk, ...]."""
  return np.pad(values, [(0, chunk - len(values))] + [(0, 0)] * (values.ndim - 1))


def _chunks(frames: Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
  frames = iter(frames)
  while part := list(itertools.islice(frames, chunk)):
    yield np.stack(part)
