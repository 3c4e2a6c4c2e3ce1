"""Reading of TFRecord files of `tf.train.Example`s, without TensorFlow.

A file is a sequence of records, each framed as

    length   uint64, little-endian
    check    uint32, masked CRC-32C of the 8 bytes of the length
    data     `length` bytes
    check    uint32, masked CRC-32C of the data

A record whose data fails its check is reported and the next one is read. If the length
fails, or the file ends early, the next record cannot be found, and the rest of the file
is skipped.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import google_crc32c
from etils import epath
from google.protobuf import message
from tensorflow_datasets.proto import tf_example_generated_pb2

_MASK_DELTA = 0xA282EAD8


class Record(NamedTuple):
  """One record of a file.

  Attributes:
    number: place in the file, from 0.
    data: bytes of the record; empty if it is damaged.
    damage: description of the damage; "" for none.
  """

  number: int
  data: bytes
  damage: str = ""


def read(path: epath.PathLike) -> Iterator[Record]:
  """Yields the records of a file, damaged ones too, with one in memory at a time."""
  with epath.Path(path).open("rb") as file:
    number = 0
    while header := file.read(12):
      if len(header) < 12:
        yield Record(number, b"", "the file ends within a record's header")
        return
      length, check = struct.unpack("<QI", header)
      if check != masked_crc32c(header[:8]):
        yield Record(number, b"", "bad CRC of the length, the rest is not readable")
        return
      data, tail = file.read(length), file.read(4)
      if len(data) < length or len(tail) < 4:
        yield Record(number, b"", f"the file ends within the record of {length} bytes")
        return
      if struct.unpack("<I", tail)[0] != masked_crc32c(data):
        yield Record(number, b"", "bad CRC of the data")
      else:
        yield Record(number, data)
      number += 1


def parse_example(data: bytes) -> dict[str, list]:
  """Parses the features of a serialised `tf.train.Example`.

  Args:
    data: the message. Of a `SequenceExample` the context is read.

  Returns:
    {name: values}, where values are bytes, floats or ints.

  Raises:
    ValueError: `data` is not such a message.
  """
  try:
    example = tf_example_generated_pb2.Example.FromString(data)
  except message.DecodeError as error:
    raise ValueError("not a tf.train.Example") from error
  features = {}
  for name, feature in example.features.feature.items():
    kind = feature.WhichOneof("kind")
    features[name] = getattr(feature, kind).value if kind else []
  return features


def masked_crc32c(data: bytes) -> int:
  """Computes the CRC-32C of `data`, rotated and shifted as TFRecord stores it."""
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
