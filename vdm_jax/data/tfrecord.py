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

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from etils import epath
from google.protobuf import message
from tensorflow_datasets.proto import tf_example_generated_pb2

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, with bits reversed.
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
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
  """Computes the CRC-32C (Castagnoli, RFC 3720) of `data`.

  The data is cut into lanes that NumPy advances together, four bytes per step. The
  register is linear over GF(2): two neighbouring lanes are joined by advancing the left
  one over as many zeros as the right one is long. Leading zeros do not change an empty
  register, so the data is padded in front.
  """
  size = len(data)
  lanes = 1 << size.bit_length() // 2
  steps = -(-size // (4 * lanes))
  padded = bytes(4 * lanes * steps - size) + data
  words = np.frombuffer(padded, "<u4").reshape(lanes, steps)
  low, high = _word_tables()
  register = np.zeros(lanes, np.uint32)
  for word in np.ascontiguousarray(words.T):
    register ^= word
    register = low[register & 0xFFFF] ^ high[register >> 16]
  advance = _zeros(4 * steps)
  while len(register) > 1:
    register = _apply(advance, register[0::2]) ^ register[1::2]
    advance = _apply(advance, advance)
  initial = _apply(_zeros(size), np.array([0xFFFFFFFF], np.uint32))
  return int(register[0] ^ initial[0]) ^ 0xFFFFFFFF


def _apply(operator: np.ndarray, registers: np.ndarray) -> np.ndarray:
  """Applies a linear map, given by its images of the 32 single bits, to uint32 [N]."""
  bits = registers[:, None] >> np.arange(32, dtype=np.uint32) & 1
  return np.bitwise_xor.reduce(np.where(bits, operator, np.uint32(0)), axis=1)


@functools.lru_cache(maxsize=256)
def _zeros(count: int) -> np.ndarray:
  """Makes the linear map of a register over `count` zero bytes, uint32 [32]."""
  power = np.uint32(1) << np.arange(32, dtype=np.uint32)  # Over no bits.
  square = np.concatenate([[np.uint32(_POLYNOMIAL)], power[:-1]])  # Over one bit.
  for _ in range(3):
    square = _apply(square, square)  # Over one byte.
  while count:
    if count & 1:
      power = _apply(square, power)
    square = _apply(square, square)
    count >>= 1
  return power


@functools.cache
def _word_tables() -> tuple[np.ndarray, np.ndarray]:
  """Tabulates the effect of four bytes on the lower and upper half of a register."""
  halves = np.arange(1 << 16, dtype=np.uint32)
  word = _zeros(4)
  return _apply(word, halves), _apply(word, halves << 16)
