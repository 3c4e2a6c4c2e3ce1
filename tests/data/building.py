"""Building data sets from tiny files in the formats of the releases."""

import pathlib
import struct

import numpy as np
from tensorflow_datasets.proto import tf_example_generated_pb2

from vdm_jax.data import builders, records, tfrecord
from vdm_jax.data import source as source_lib


def build(
  dataset: str, root: pathlib.Path, data_dir: pathlib.Path, **options
) -> dict[str, source_lib.VideoSource]:
  """{split: source} of a data set built from the files below `root`."""
  cls, config = builders.parse(dataset, path=str(root), **options)
  directory = records.build(cls, config, data_dir)
  # What a config file would ask for.
  name = f"{dataset.partition('/')[0]}/{config.name}"
  assert (
    source_lib.VideoSource(directory, source_lib.splits(directory)[0]).full_name == name
  )
  assert source_lib.locate(name, data_dir) == directory
  return {
    split: source_lib.VideoSource(directory, split)
    for split in source_lib.splits(directory)
  }


def names(source: source_lib.VideoSource) -> list[str]:
  return [source.name(video) for video in range(source.num_videos)]


def frames(source: source_lib.VideoSource, name: str) -> np.ndarray:
  """uint8 [T, H, W, C]: the whole video called `name`."""
  video = names(source).index(name)
  return source.read(video, np.arange(source.lengths[video]))


def example(features: dict[str, bytes | list[float]]) -> bytes:
  """A serialised tf.train.Example."""
  message = tf_example_generated_pb2.Example()
  for name, value in features.items():
    feature = message.features.feature[name]
    if isinstance(value, bytes):
      feature.bytes_list.value.append(value)
    else:
      feature.float_list.value.extend(value)
  return message.SerializeToString()


def frame_record(data: bytes) -> bytes:
  """A record as it stands in a TFRecord file."""
  length = struct.pack("<Q", len(data))
  checks = (struct.pack("<I", tfrecord.masked_crc32c(part)) for part in (length, data))
  return length + next(checks) + data + next(checks)
