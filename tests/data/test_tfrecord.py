"""Reading TFRecord files: the checksum, the framing, and what is damaged."""

import numpy as np
import pytest
from tensorboardX import crc32c as other_crc32c
from tensorboardX import record_writer

from tests.data import building
from vdm_jax.data import tfrecord


@pytest.mark.parametrize("size", [0, 1, 8, 63, 4097])
def test_the_checksum_equals_another_implementation(size):
  data = np.random.default_rng(size).bytes(size)
  crc = other_crc32c.crc32c(data)
  masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32
  assert tfrecord.masked_crc32c(data) == masked


@pytest.fixture
def path(tmp_path):
  return tmp_path / "some.tfrecords"


RECORDS = [b"first", b"", b"the third one"]
STARTS = np.cumsum([0] + [16 + len(data) for data in RECORDS])


def damaged(path, place: int) -> list[tfrecord.Record]:
  """What is read when one bit is flipped in a file of `RECORDS`."""
  content = bytearray(b"".join(map(building.frame_record, RECORDS)))
  content[place] ^= 4
  path.write_bytes(content)
  return list(tfrecord.read(path))


class TestFile:
  def test_reads_what_another_implementation_wrote(self, path):
    writer = record_writer.RecordWriter(str(path))
    for data in RECORDS:
      writer.write(data)
    writer.close()
    assert list(tfrecord.read(path)) == [
      tfrecord.Record(number, data) for number, data in enumerate(RECORDS)
    ]
    assert path.read_bytes() == b"".join(map(building.frame_record, RECORDS))

  @pytest.mark.parametrize("offset", [12, 16, 17, 20])  # Data, then their checksum.
  def test_damaged_data_lose_one_record(self, path, offset):
    first, second, third = damaged(path, offset)
    assert (first.data, first.damage) == (b"", "bad CRC of the data")
    assert (second.data, third.data) == tuple(RECORDS[1:])
    assert not second.damage and not third.damage

  @pytest.mark.parametrize("offset", [0, 7, 8, 11])  # The length, then its checksum.
  def test_damaged_length_loses_the_rest(self, path, offset):
    first, second = damaged(path, STARTS[1] + offset)
    assert first == (0, RECORDS[0], "")
    assert second.number == 1 and "bad CRC of the length" in second.damage

  @pytest.mark.parametrize("keep", [STARTS[2] + 5, STARTS[2] + 14, STARTS[3] - 1])
  def test_truncated(self, path, keep):
    content = b"".join(map(building.frame_record, RECORDS))
    path.write_bytes(content[:keep])
    *good, last = tfrecord.read(path)
    assert [record.data for record in good] == RECORDS[:2]
    assert last.number == 2 and "the file ends within" in last.damage


class TestExample:
  def test_values(self):
    message = building.example({"name": b"\x00\xff", "pose": [0.5, -2.0]})
    features = tfrecord.parse_example(message)
    assert list(features["name"]) == [b"\x00\xff"]
    assert list(features["pose"]) == [0.5, -2.0]
    assert set(features) == {"name", "pose"}

  def test_no_example(self):
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
      tfrecord.parse_example(b"\x0a\xff\xff")
