"""Cityscapes from tiny pictures named as in its release."""

import numpy as np
import PIL.Image
import pytest
from absl import logging

from tests.data import building
from vdm_jax.errors import UserError


def write(root, split: str, drive: str, numbers) -> None:
  """Pictures twice as wide as high whose grey is their number."""
  folder = root / split / drive.partition("_")[0]
  folder.mkdir(parents=True, exist_ok=True)
  for number in numbers:
    image = np.full((8, 16, 3), number % 256, np.uint8)
    image[:, :4] = image[:, 12:] = 255  # What the crop leaves out.
    name = f"{drive}_{number:06d}_leftImg8bit.png"
    PIL.Image.fromarray(image).save(folder / name)


@pytest.fixture
def root(tmp_path):
  root = tmp_path / "leftImg8bit_sequence"
  write(root, "train", "aachen_000000", range(30))
  write(root, "train", "aachen_000001", range(30))
  write(root, "train", "bochum_000000", range(100, 160))  # Two snippets that touch.
  write(root, "val", "ulm_000003", range(7, 37))
  return root


def test_snippets_are_clips(root, tmp_path):
  sources = building.build("cityscapes", root, tmp_path, image_size=8)
  assert {split: building.names(source) for split, source in sources.items()} == {
    "train": [
      "aachen_000000_000000",
      "aachen_000001_000000",
      "bochum_000000_000100",
      "bochum_000000_000130",
    ],
    "validation": ["ulm_000003_000007"],
  }
  train = sources["train"]
  assert train.config_name == "8px" and train.frame_shape == (8, 8, 3)
  assert set(train.lengths) == {30} and set(train.fps) == {17.0}
  frames = building.frames(train, "bochum_000000_000130")
  expected = np.broadcast_to(np.arange(130, 160)[:, None, None, None], frames.shape)
  np.testing.assert_array_equal(frames, expected)


def test_missing_and_damaged_frames(root, tmp_path, caplog):
  (root / "train" / "aachen" / "aachen_000000_000012_leftImg8bit.png").unlink()
  (root / "val" / "ulm" / "ulm_000003_000036_leftImg8bit.png").unlink()
  write(root, "val", "ulm_000004", range(30))
  path = root / "val" / "ulm" / "ulm_000004_000005_leftImg8bit.png"
  path.write_bytes(path.read_bytes()[:40])
  write(root, "val", "ulm_000005", range(30))
  logging.use_absl_handler()
  with caplog.at_level("WARNING", logger="absl"):
    sources = building.build("cityscapes", root.parent, tmp_path / "data", image_size=8)
  assert building.names(sources["train"])[0] == "aachen_000001_000000"
  assert building.names(sources["validation"]) == ["ulm_000005_000000"]
  report = caplog.text
  assert "4 videos were skipped" in report
  assert "aachen_000000_000000: 12 consecutive frames, a multiple of 30 is" in report
  assert "aachen_000000_000013: 17 consecutive frames" in report
  assert "missing before it: 000012" in report
  assert "ulm_000003_000007: 29 consecutive frames" in report
  assert "ulm_000004_000005_leftImg8bit.png: cannot be decoded" in report


def test_no_pictures(tmp_path):
  with pytest.raises(UserError, match="expected train/TOWN/TOWN_000000_000000_left"):
    building.build("cityscapes", tmp_path, tmp_path / "data")
