"""A user's folder of videos, made of real files."""

import numpy as np
import PIL.Image
import pytest
from absl import logging

from tests.data import helpers
from vdm_jax.data import decode, records, video
from vdm_jax.data import source as source_lib
from vdm_jax.data.builders import video_folder
from vdm_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
  """Five good videos of every kind, four bad ones, both CSV files."""
  root = tmp_path / "clips"
  clip = helpers.quadrants()
  helpers.write(root / "upright.mp4", clip)
  helpers.write(root / "deep" / "er" / "turned.mov", clip, rotation=90)
  helpers.write(root / "deep" / "film.webm", clip, codec="libvpx-vp9")
  video.write_gif(root / "wave.gif", clip, fps=10)
  (root / "walk").mkdir()
  for number, frame in enumerate(clip):
    PIL.Image.fromarray(frame).save(root / "walk" / f"{number}.png")
  noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
  options = {"movflags": "+faststart"}
  helpers.truncate(helpers.write(root / "cut.mp4", noise, options=options))
  (root / "fake.avi").write_bytes(b"not a video at all" * 100)
  (root / "empty.mkv").write_bytes(b"")
  helpers.write(root / "short.mp4", clip[:1])
  (root / ".hidden.mp4").write_bytes(b"")
  (root / "readme.txt").write_text("hello")
  (root / "captions.csv").write_text(
    'file,caption\nupright.mp4,a flag\nturned,"a flag, turned"\nnobody.mp4,?\n'
  )
  (root / "labels.csv").write_text("file,label\nwave.gif,waves\nwalk,walks\n")
  return root


def build(root, tmp_path, **options):
  """{video name: (source, number)} over all splits."""
  options = {"path": str(root), "image_size": "16", "name": "mine"} | options
  config = video_folder.VideoFolderConfig(**options)
  directory = records.build(video_folder.VideoFolder, config, tmp_path / "data")
  found = {}
  for split in source_lib.splits(directory):
    source = source_lib.VideoSource(directory, split)
    found |= {source.name(i): (source, i) for i in range(source.num_videos)}
  return found


GOOD = {
  "upright.mp4": "rgbw",
  "deep/er/turned.mov": "gwrb",
  "deep/film.webm": "rgbw",
  "wave.gif": "rgbw",
  "walk": "rgbw",
}


class TestFolder:
  def test_keeps_good_videos_and_reports_the_others(self, folder, tmp_path, caplog):
    logging.use_absl_handler()
    with caplog.at_level("WARNING", logger="absl"):
      found = build(folder, tmp_path)
    assert set(found) == set(GOOD)
    for name, (source, number) in found.items():
      assert source.frame_shape == (16, 16, 3) and source.lengths[number] == 12
      frames = source.read(number, np.arange(12))
      corners = GOOD[name]
      assert helpers.corner_colours(frames[-1]) == corners
      ramp = np.linspace(20, 235, 12)
      if corners[-1] == "w":
        np.testing.assert_allclose(helpers.ramp(frames), ramp, atol=12)
      assert source.fps[number] == pytest.approx(0 if name == "walk" else 10, rel=0.01)
    report = caplog.text
    assert "4 videos were skipped" in report
    assert "cut.mp4: truncated" in report and "fake.avi: cannot be decoded" in report
    assert "empty.mkv: " in report and "short.mp4: 1 frames, 2 are needed" in report
    assert "captions.csv: 1 lines name no video, such as 'nobody.mp4'" in report

  def test_captions_and_labels(self, folder, tmp_path):
    found = build(folder, tmp_path)

    def facts(name):
      source, number = found[name]
      return source.caption(number), source.label(number)

    assert facts("upright.mp4") == ("a flag", -1)
    assert facts("deep/er/turned.mov") == ("a flag, turned", -1)
    assert facts("walk") == ("", 0) and facts("wave.gif") == ("", 1)
    source, _ = found["walk"]
    assert source.label_names == ["walks", "waves"] and source.num_labels == 2

  def test_same_bytes_again(self, folder, tmp_path):
    build(folder, tmp_path / "a")
    build(folder, tmp_path / "b")
    files = sorted((tmp_path / "a").rglob("*.array_record*"))
    assert files
    for path in files:
      other = tmp_path / "b" / path.relative_to(tmp_path / "a")
      assert path.read_bytes() == other.read_bytes()

  def test_size_rate_grey_and_cut(self, folder, tmp_path):
    found = build(
      folder, tmp_path, image_size="12x18", fps=5.0, channels=1, max_frames=4
    )
    assert set(found) == set(GOOD)
    for name, (source, number) in found.items():
      assert source.frame_shape == (12, 18, 1) and source.lengths[number] == 4
      frames = source.read(number, np.arange(4))
      step = 1 if name == "walk" else 2
      ramp = np.linspace(20, 235, 12)[: 4 * step : step]
      if GOOD[name][-1] == "w":
        np.testing.assert_allclose(helpers.ramp(frames), ramp, atol=12)

  def test_labels_by_folder_and_numbers(self, tmp_path):
    root = tmp_path / "clips"
    for name in ("cats/1.mp4", "cats/2.mp4", "dogs/1.mp4"):
      helpers.write(root / name, helpers.quadrants(4))
    found = build(root, tmp_path, label_folders=True)
    assert {n: s.label(i) for n, (s, i) in found.items()} == {
      "cats/1.mp4": 0,
      "cats/2.mp4": 0,
      "dogs/1.mp4": 1,
    }
    (root / "labels.csv").write_text("file,label\ncats/1,7\ndogs/1.mp4,0\n")
    found = build(root, tmp_path, name="numbers")
    labels = {n: s.label(i) for n, (s, i) in found.items()}
    assert labels == {"cats/1.mp4": 7, "cats/2.mp4": -1, "dogs/1.mp4": 0}
    assert found["cats/1.mp4"][0].num_labels == 8

  def test_splits_by_hash_are_stable(self, tmp_path):
    root = tmp_path / "clips"
    source = helpers.write(tmp_path / "one.mp4", helpers.quadrants(2))
    root.mkdir()

    def splits(count, name):
      for number in range(count):
        (root / f"{number}.mp4").write_bytes(source.read_bytes())
      found = build(root, tmp_path, name=name, validation=0.2, test=0.3)
      return {name: source.split for name, (source, _) in found.items()}

    few, many = splits(20, "few"), splits(40, "many")
    assert set(many.values()) == {"train", "validation", "test"}
    assert few.items() <= many.items()

  def test_splits_by_folder(self, tmp_path):
    root = tmp_path / "clips"
    for name in ("train/a.mp4", "val/a.mp4", "test/b.mp4"):
      helpers.write(root / name, helpers.quadrants(2))
    found = build(root, tmp_path)
    assert {name: source.split for name, (source, _) in found.items()} == {
      "train/a.mp4": "train",
      "val/a.mp4": "validation",
      "test/b.mp4": "test",
    }

  def test_missing_pictures(self, folder, tmp_path, caplog):
    (folder / "walk" / "7.png").unlink()
    logging.use_absl_handler()
    with caplog.at_level("WARNING", logger="absl"):
      found = build(folder, tmp_path)
    assert set(found) == set(GOOD) - {"walk"}
    assert "walk: missing pictures, by number: 7" in caplog.text

  def test_a_single_video_is_for_training(self, tmp_path):
    for number in range(12):  # Whatever its hash.
      root = tmp_path / str(number)
      helpers.write(root / f"{number}.mp4", helpers.quadrants(2))
      found = build(root, tmp_path, name=f"n{number}", validation=0.45, test=0.5)
      assert found[f"{number}.mp4"][0].split == "train"


@pytest.mark.parametrize(
  ("names", "missing"),
  [
    (["f1.png", "f2.png", "f4.png"], [3]),
    (["f001.png", "f011.png", "f021.png", "f051.png"], [31, 41]),  # Every tenth.
    (["s2_9.png", "s2_10.png", "s2_11.png"], []),  # Only the last number counts.
    (["1.png", "2.png", "3.jpg", "9.jpg"], []),  # Not one series.
    (["1.png", "01.png", "3.png"], []),
    (["0.png", "33.png", "67.png", "100.png", "200.png"], []),  # Times.
    (["1.png", "2.png", "90.png", "91.png"], []),  # Two films.
    (["a.png", "b.png"], []),
    (["7.png"], []),
  ],
)
def test_what_counts_as_missing(names, missing):
  assert decode.missing_numbers(names) == missing


class TestMistakes:
  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"image_size": "big"}, "image_size: expected 64 or 48x64, found 'big'"),
      ({"channels": 2}, "channels: expected 1 or 3, found 2"),
      ({"test": 1.0}, "fractions that leave some for training"),
      ({"path": "/no/such/folder"}, "expected a folder of videos"),
      ({"name": "a/b"}, "expected no slash"),
    ],
  )
  def test_options(self, folder, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
      build(folder, tmp_path, **options)

  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"fps": -8.0}, "fps: expected a number >= 0, found -8.0"),
      ({"fps": float("nan")}, "fps: expected a number >= 0, found nan"),
      ({"max_frames": -1}, "max_frames: expected a number >= 0, found -1"),
    ],
  )
  def test_numbers_by_which_no_film_ends(self, options, message):
    with pytest.raises(UserError, match=f"video_folder {message}"):
      video_folder.VideoFolderConfig(name="mine", **options)

  def test_nothing_readable_leaves_nothing(self, tmp_path):
    root = tmp_path / "clips"
    root.mkdir()
    with pytest.raises(UserError, match=r"expected videos.*found none"):
      build(root, tmp_path)
    (root / "a.mp4").write_bytes(b"nonsense" * 200)
    with pytest.raises(UserError, match="no video to store"):
      build(root, tmp_path)
    assert not list((tmp_path / "data").rglob("*"))

  def test_csv_without_header(self, folder, tmp_path):
    (folder / "captions.csv").write_text("upright.mp4,a flag\n")
    with pytest.raises(UserError, match=r"captions\.csv: expected the columns file,"):
      build(folder, tmp_path)
