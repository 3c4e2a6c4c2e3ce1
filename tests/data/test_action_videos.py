"""UCF-101, Kinetics-600 and KTH from tiny videos and lists in their formats."""

import numpy as np
import pytest
from absl import logging

from tests.data import building, helpers
from vdm_jax.errors import UserError


@pytest.fixture
def report(caplog):
  """A function that gives what was reported so far."""
  logging.use_absl_handler()
  with caplog.at_level("WARNING", logger="absl"):
    yield lambda: caplog.text


def write(path, length: int = 4, fps: int = 10):
  return helpers.write(path, helpers.quadrants(length), fps=fps, codec="mpeg4")


class TestUCF101:
  @pytest.fixture
  def root(self, tmp_path):
    root = tmp_path / "ucf"
    for folder, name in [
      ("Archery", "v_Archery_g01_c01"),
      ("Archery", "v_Archery_g02_c01"),
      ("HandstandPushups", "v_HandStandPushups_g01_c01"),
      ("HandstandPushups", "v_HandStandPushups_g03_c02"),
    ]:
      write(root / "UCF-101" / folder / f"{name}.avi")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\r\n2 HandstandPushups\r\n")
    (lists / "trainlist02.txt").write_text(
      "Archery/v_Archery_g02_c01.avi 1\r\n"
      "HandstandPushups/v_HandStandPushups_g03_c02.avi 2\r\n"
      "Archery/v_Archery_g09_c01.avi 1\r\n"
    )
    (lists / "testlist02.txt").write_text(
      "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n"
    )
    return root

  def test_official_split(self, root, tmp_path, report):
    sources = building.build("ucf101", root, tmp_path, fold=2, image_size=16)
    assert {split: building.names(source) for split, source in sources.items()} == {
      "train": ["v_Archery_g02_c01", "v_HandStandPushups_g03_c02"],
      "test": ["v_HandStandPushups_g01_c01"],
    }
    train = sources["train"]
    assert train.config_name == "16px_2fold"
    assert train.label_names == ["Archery", "HandstandPushups"]
    assert train.labels.tolist() == [0, 1] and sources["test"].labels.tolist() == [1]
    assert train.fps[0] == pytest.approx(10, rel=0.01)
    frames = building.frames(train, "v_Archery_g02_c01")
    assert frames.shape == (4, 16, 16, 3)
    assert helpers.corner_colours(frames[0])[:3] == "rgb"
    assert "1 videos of the split train are missing: v_Archery_g09_c01" in report()
    assert "1 videos are in no split file: v_Archery_g01_c01" in report()

  def test_all_videos_train(self, root, tmp_path, report):
    helpers.truncate(root / "UCF-101" / "Archery" / "v_Archery_g01_c01.avi")
    sources = building.build("ucf101/16px_0fold", root, tmp_path)
    assert set(sources) == {"train"} and sources["train"].labels.tolist() == [0, 1, 1]
    assert "1 video was skipped" in report()
    assert "v_Archery_g01_c01: cannot be decoded" in report()

  def test_lists_are_needed(self, root, tmp_path):
    lists = root / "ucfTrainTestlist"
    with pytest.raises(UserError, match=r"expected trainlist01\.txt, found none"):
      building.build("ucf101", root, tmp_path)
    with pytest.raises(UserError, match="fold: expected one of 0, 1, 2, 3, found 4"):
      building.build("ucf101", root, tmp_path, fold=4)
    with pytest.raises(UserError, match=r"classInd\.txt, found none"):
      building.build("ucf101", root / "UCF-101", tmp_path, fold=2)
    building.build("ucf101", root / "UCF-101", tmp_path, fold=2, lists=str(lists))
    (lists / "classInd.txt").write_text("Archery\n")
    with pytest.raises(UserError, match="expected a line '1 NAME', found Archery"):
      building.build("ucf101", root, tmp_path, fold=0)

  def test_lists_that_are_not_utf8(self, root, tmp_path):
    for name in ("trainlist02.txt", "classInd.txt"):
      (root / "ucfTrainTestlist" / name).write_bytes(b"1 Archery\n2 B\xe9\n")
      with pytest.raises(UserError, match=f"{name}, line 2: expected UTF-8, .* 0xe9"):
        building.build("ucf101", root, tmp_path, fold=2)


class TestKinetics600:
  HEADER = "label,youtube_id,time_start,time_end,split\n"

  @pytest.fixture
  def root(self, tmp_path):
    root = tmp_path / "kinetics"
    write(root / "train" / "zumba dance" / "aaaaaaaaaaa_000003_000013.mp4")
    write(root / "train" / "b-_bbbbbbbb_000000_000010.mp4", length=6)
    write(root / "val" / "ccccccccccc_000120_000130.mp4")
    write(root / "ddddddddddd_000001_000011.mp4")
    write(root / "eeeeeeeeeee_000001_000011.mp4")
    helpers.truncate(write(root / "fffffffffff_000001_000011.mp4", length=12))
    (root / "train.csv").write_text(
      self.HEADER
      + "zumba dance,aaaaaaaaaaa,3,13,train\n"
      + '"archery, long",b-_bbbbbbbb,0.0,10.0,train\n'
      + "archery,ggggggggggg,5,15,train\n"
      + "archery,fffffffffff,1,11,train\n"
    )
    (root / "validate.csv").write_text(
      self.HEADER + "archery,ccccccccccc,120,130,validate\n"
    )
    (root / "test.csv").write_text(
      "youtube_id,time_start,time_end,split\nddddddddddd,1,11,test\n"
    )
    (root / "other.csv").write_text("a,b\n1,2\n")
    return root

  def test_split_files_decide(self, root, tmp_path, report):
    sources = building.build("kinetics600", root, tmp_path, image_size=16, max_frames=5)
    assert {split: building.names(source) for split, source in sources.items()} == {
      "train": ["aaaaaaaaaaa_000003_000013", "b-_bbbbbbbb_000000_000010"],
      "validation": ["ccccccccccc_000120_000130"],
      "test": ["ddddddddddd_000001_000011"],
    }
    train = sources["train"]
    assert train.config_name == "16px_5maxframes"
    assert train.label_names == ["archery", "archery, long", "zumba dance"]
    assert train.labels.tolist() == [2, 1] and sources["test"].labels.tolist() == [-1]
    assert train.lengths.tolist() == [4, 5]
    text = report()
    assert "1 videos of the split train are missing: ggggggggggg_000005_000015" in text
    assert "1 videos are in no split file: eeeeeeeeeee_000001_000011" in text
    assert "1 video was skipped" in text and "fffffffffff_000001_000011: " in text

  @pytest.mark.parametrize(
    ("line", "message"),
    [
      ("a,aaaaaaaaaaa,3,13,holdout", r"unknown split in .*train\.csv 'holdout'"),
      ("a,aaaaaaaaaaa,,13,train", "expected start and end in seconds, found ,13"),
    ],
  )
  def test_bad_lines(self, root, tmp_path, line, message):
    (root / "train.csv").write_text(self.HEADER + line + "\n")
    with pytest.raises(UserError, match=message):
      building.build("kinetics600", root, tmp_path)

  def test_lists_that_are_not_utf8(self, root, tmp_path):
    text = "\ufeff" + self.HEADER + "caf\xe9,aaaaaaaaaaa,3,13,train\n"
    (root / "train.csv").write_bytes(text.encode().replace(b"\xc3\xa9", b"\xe9"))
    with pytest.raises(UserError, match="train.csv, line 2: expected UTF-8, .* 0xe9"):
      building.build("kinetics600", root, tmp_path)

  def test_lists_are_needed(self, root, tmp_path):
    with pytest.raises(UserError, match="val: expected CSV files with columns youtube"):
      building.build("kinetics600", root / "val", tmp_path)
    with pytest.raises(UserError, match="none: expected a folder"):
      building.build("kinetics600", root, tmp_path, lists=str(root / "none"))


class TestKTH:
  @pytest.fixture
  def root(self, tmp_path):
    root = tmp_path / "kth"
    for name, length in [
      ("boxing/person11_boxing_d1", 12),
      ("walking/person01_walking_d4", 9),
      ("walking/person22_walking_d1", 4),
      ("running/person21_running_d2", 5),
    ]:
      write(root / f"{name}_uncomp.avi", length=length, fps=25)
    (root / "00sequences.txt").write_text(
      "The training person11, person12; validation person19 ...\n\n"
      "person11_boxing_d1\t\tframes\t1-4, 5-12\n"
      "person01_walking_d4 \tframes\t3-6, 7-9, 8-15\n"
      "person22_walking_d1\tframes\t1-4\n"
      "person21_running_d2\tframes\t2-5\n"
      "person13_handclapping_d3\t *missing*\n"
      "person13_handclapping_d4\tframes\t1-4\n"
    )
    return root

  def test_sequences_are_clips(self, root, tmp_path, report):
    sources = building.build("kth", root, tmp_path, image_size=16)
    assert {split: building.names(source) for split, source in sources.items()} == {
      "train": ["person11_boxing_d1_1", "person11_boxing_d1_2"],
      "validation": [
        "person01_walking_d4_1",
        "person01_walking_d4_2",
        "person21_running_d2_1",
      ],
      "test": ["person22_walking_d1_1"],
    }
    train, validation = sources["train"], sources["validation"]
    assert train.config_name == "16px" and train.frame_shape == (16, 16, 1)
    assert train.lengths.tolist() == [4, 8] and validation.lengths.tolist() == [4, 3, 4]
    assert train.labels.tolist() == [0, 0] and validation.labels.tolist() == [5, 5, 4]
    assert train.fps[0] == pytest.approx(25, rel=0.01)
    # Counted from 1, the last included: the ramp says which frames these are.
    ramp = np.linspace(20, 235, 12)
    for name, frames in [("_1", slice(0, 4)), ("_2", slice(4, 12))]:
      video = building.frames(train, f"person11_boxing_d1{name}")
      np.testing.assert_allclose(helpers.ramp(video), ramp[frames], atol=12)
    text = report()
    assert "1 videos of 00sequences.txt are missing: person13_handclapping_d4" in text
    assert "person01_walking_d4, frames 8-15: the video has 9 frames" in text

  def test_mcvd_and_cropped(self, root, tmp_path):
    stretched = building.build("kth", root, tmp_path, image_size=32)["train"]
    cropped = building.build("kth/32px_mcvd_crop", root, tmp_path)
    assert set(cropped) == {"train", "test"}
    assert set(building.names(cropped["test"])) == {
      "person21_running_d2_1",
      "person22_walking_d1_1",
    }

    def row(source):
      return building.frames(source, "person11_boxing_d1_2")[-1, 24, :, 0]

    # A line from corner to corner would do: 48 columns in 32, or the middle 32.
    edges = [np.abs(np.diff(row(s).astype(int))) for s in (stretched, cropped["train"])]
    assert [int(edge.argmax()) for edge in edges] == [15, 15]

  def test_good_sequences_of_a_damaged_video_are_kept(self, root, tmp_path, report):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    path = root / "boxing" / "person11_boxing_d1_uncomp.avi"
    helpers.truncate(helpers.write(path, noise, codec="mpeg4"), keep=0.8)
    (root / "00sequences.txt").write_text("person11_boxing_d1 frames 1-4, 17-20\n")
    sources = building.build("kth", root, tmp_path)
    assert building.names(sources["train"]) == ["person11_boxing_d1_1"]
    assert "person11_boxing_d1, frames 17-20: truncated" in report()

  def test_mistakes(self, root, tmp_path):
    with pytest.raises(UserError, match="persons: expected one of official, mcvd"):
      building.build("kth", root, tmp_path, persons="svg")
    with pytest.raises(UserError, match=r"expected 00sequences\.txt, found none"):
      building.build("kth", root / "boxing", tmp_path)
    (root / "00sequences.txt").write_text("nothing\n")
    with pytest.raises(UserError, match="expected lines such as 'person01_boxing_d1"):
      building.build("kth", root, tmp_path)
