"""Folders of samples that are damaged, or hold something else."""

import json

import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.evaluation import samples


def folder(path, videos, record=None):
  path.mkdir(exist_ok=True)
  np.savez(path / "videos.npz", videos=videos)
  record = {"given_frames": [0]} if record is None else record
  (path / "record.json").write_text(json.dumps(record))
  return path


def test_what_was_written_is_read(tmp_path):
  videos = np.arange(48, dtype=np.uint8).reshape(2, 3, 2, 2, 2)
  found = samples.load(str(folder(tmp_path / "s", videos)))
  np.testing.assert_array_equal(found.videos, videos)
  assert found.observed.tolist() == [True, False, False]


@pytest.mark.parametrize(
  "videos", [np.zeros((2, 3, 4, 4, 1)), np.zeros((3, 4, 4, 1), np.uint8)]
)
def test_other_than_8_bit_videos_are_refused(tmp_path, videos):
  with pytest.raises(UserError, match=r"videos.npz: expected videos uint8 \[N, T"):
    samples.load(str(folder(tmp_path / "s", videos)))


@pytest.mark.parametrize("name", ["videos.npz", "record.json"])
@pytest.mark.parametrize("contents", [b"", b"{", b"PK\x03\x04rest"])
def test_a_damaged_file_is_named(tmp_path, name, contents):
  path = folder(tmp_path / "s", np.zeros((1, 2, 4, 4, 1), np.uint8))
  (path / name).write_bytes(contents)
  with pytest.raises(UserError, match=f"{name}: damaged"):
    samples.load(str(path))
