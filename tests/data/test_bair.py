"""BAIR robot pushing from tiny files in the format of its release."""

import numpy as np
import pytest
from absl import logging

from tests.data import building
from vdm_jax.data.builders import bair
from vdm_jax.errors import UserError


def clip(number: int, **changes) -> bytes:
  """A record whose frames say which clip, frame and camera they are."""
  features = {}
  for i in range(bair.NUM_FRAMES):
    for code, camera in enumerate(bair.CAMERAS):
      frame = np.full(bair.FRAME_SHAPE, (number, i, code), np.uint8)
      features[f"{i}/image_{camera}/encoded"] = frame.tobytes()
    features[f"{i}/action"] = [float(number), i, 0.5, -0.5]
    features[f"{i}/endeffector_pos"] = [i / 8, 1.0, 2.0]
  return building.example(features | changes)


def write(path, numbers) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  records = [building.frame_record(clip(number)) for number in numbers]
  path.write_bytes(b"".join(records))


@pytest.fixture
def root(tmp_path):
  """Three training files of 2 clips, one test file of 1."""
  root = tmp_path / "softmotion30_44k"
  for first in (0, 2, 10):
    write(root / "train" / f"traj_{first}_to_{first + 1}.tfrecords", [first, first + 1])
  write(root / "test" / "traj_0_to_0.tfrecords", [200])
  return root


class TestBAIR:
  def test_splits_frames_and_extras(self, root, tmp_path):
    sources = building.build("bair", root, tmp_path)
    assert {split: building.names(source) for split, source in sources.items()} == {
      "train": ["traj_0", "traj_1", "traj_2", "traj_3"],
      "validation": ["traj_10", "traj_11"],  # The last file; 10 comes after 2.
      "test": ["traj_0"],
    }
    source = sources["train"]
    assert source.config_name == "aux1" and source.frame_shape == (64, 64, 3)
    assert set(source.lengths) == {30}
    frames = source.read(3, np.array([0, 29]))
    assert frames[:, 5, 7].tolist() == [[3, 0, 0], [3, 29, 0]]
    action = source.read_extra(3, "action", np.array([29]))
    np.testing.assert_array_equal(action, np.float32([[3, 29, 0.5, -0.5]]))
    place = source.read_extra(3, "endeffector_pos", np.array([4, 8]))
    np.testing.assert_array_equal(place, np.float32([[0.5, 1, 2], [1, 1, 2]]))

  def test_other_camera_from_the_folder_above(self, root, tmp_path):
    sources = building.build("bair/main_0heldoutfiles", root.parent, tmp_path / "data")
    assert set(sources) == {"train", "test"} and sources["train"].num_videos == 6
    assert sources["test"].read(0, np.array([2]))[0, 0, 0].tolist() == [200, 2, 1]

  def test_damaged_records_are_named_skipped_and_counted(self, root, tmp_path, caplog):
    path = root / "train" / "traj_0_to_1.tfrecords"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    other = root / "train" / "traj_2_to_3.tfrecords"
    bad = clip(2, **{"7/image_aux1/encoded": b"short"})
    incomplete = clip(3, **{"4/action": [1.0, 2.0]})
    other.write_bytes(building.frame_record(bad) + building.frame_record(incomplete))
    logging.use_absl_handler()
    with caplog.at_level("WARNING", logger="absl"):
      sources = building.build("bair", root, tmp_path)
    assert building.names(sources["train"]) == ["traj_1"]
    assert building.frames(sources["train"], "traj_1")[3, 0, 0].tolist() == [1, 3, 0]
    report = caplog.text
    assert "3 videos were skipped" in report
    assert "train/traj_0_to_1.tfrecords, record 0: bad CRC of the data" in report
    assert (
      "traj_2_to_3.tfrecords, record 0: expected 12288 bytes in 7/image_aux1/encoded,"
      " found 5" in report
    )
    assert "record 1: expected 4 values in 4/action, found 2" in report


class TestMistakes:
  @pytest.mark.parametrize(
    ("config", "message"),
    [
      ("bair/aux2", "expected parts such as .*aux1, main; found 'aux2'"),
      (
        "bair/3heldoutfiles",
        "held_out_files: expected fewer than the 3 files, found 3",
      ),
    ],
  )
  def test_options(self, root, tmp_path, config, message):
    with pytest.raises(UserError, match=message):
      building.build(config, root, tmp_path)

  def test_folders(self, root, tmp_path):
    with pytest.raises(UserError, match="expected the folder softmotion30_44k"):
      building.build("bair", tmp_path / "none", tmp_path)
    with pytest.raises(UserError, match=r"train: expected TFRecord files"):
      building.build("bair", root / "train", tmp_path)
    (root / "test" / "more.tfrecords").write_bytes(b"")
    with pytest.raises(UserError, match="expected a name such as traj_0_to_255"):
      building.build("bair", root, tmp_path)
