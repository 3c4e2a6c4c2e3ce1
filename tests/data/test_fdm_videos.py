"""CARLA Town01, GQN-Mazes and MineRL from tiny files in their formats."""

import logging
import os
import sys

import numpy as np
import pytest

from tests.data import building
from vdm_jax.errors import UserError


def noise(seed: int, length: int, size: int) -> np.ndarray:
  shape = (length, size, size, 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


class TestNumberedArrays:
  @pytest.fixture
  def root(self, tmp_path):
    """12 training videos, one of them cut short and one of another size; 2 tests."""
    root = tmp_path / "mazes"
    for split, count in (("train", 12), ("test", 2)):
      (root / split).mkdir(parents=True)
      for number in range(count):
        np.save(root / split / f"{number}.npy", noise(number, 5 + number, 8))
    cut = root / "train" / "3.npy"
    cut.write_bytes(cut.read_bytes()[:-100])
    np.save(root / "train" / "4.npy", noise(4, 5, 6))
    (root / "train" / "notes.txt").write_text("a stray file")
    (root / "train" / "old.npy").write_bytes(b"")
    return root

  @pytest.mark.parametrize("dataset", ["gqn_mazes", "minerl"])
  def test_builds(self, dataset, root, tmp_path, caplog):
    options = {"image_size": 4, "held_out": 2}
    with caplog.at_level(logging.WARNING):
      sources = building.build(dataset, root, tmp_path / "data", **options)
    assert sources["train"].full_name == f"{dataset}/4px_2heldout"
    # In the order of the numbers, the last two kept for validation.
    expected = [f"train/{number}.npy" for number in (0, 1, 2, 5, 6, 7, 8, 9)]
    assert building.names(sources["train"]) == expected
    held_out = ["train/10.npy", "train/11.npy"]
    assert building.names(sources["validation"]) == held_out
    assert sources["validation"].lengths.tolist() == [15, 16]
    found = building.frames(sources["test"], "test/1.npy").astype(float)
    whole = noise(1, 6, 8).astype(float)
    means = sum(whole[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4
    assert np.abs(found - means).max() <= 0.5
    assert "2 videos were skipped" in caplog.text
    assert "train/3.npy: " in caplog.text
    assert "train/4.npy: expected square frames of 4 pixels or a mul" in caplog.text

  def test_frames_of_their_own_size_are_stored_as_they_are(self, root, tmp_path):
    options = {"image_size": 8, "held_out": 0}
    sources = building.build("minerl", root, tmp_path / "data", **options)
    assert set(sources) == {"train", "test"}
    assert np.array_equal(
      building.frames(sources["train"], "train/7.npy"), noise(7, 12, 8)
    )

  def test_without_a_split(self, root, tmp_path):
    (root / "test").rename(root / "tests")
    with pytest.raises(UserError, match="test: expected videos 0.npy, 1.npy, ..., fo"):
      building.build("gqn_mazes", root, tmp_path / "data", image_size=8)


class _Attack:
  """What a pickle that runs a command looks like."""

  def __reduce__(self):
    return os.mkdir, ("attacked",)


class TestCarla:
  @pytest.fixture
  def root(self, tmp_path):
    """Videos 0 to 5 train, 6 and 7 test; 1 to 4 of them broken in different ways."""
    torch = pytest.importorskip("torch")
    root = tmp_path / "no-traffic"
    root.mkdir()
    for number in range(8):
      frames = torch.from_numpy(noise(number, 5, 8))
      torch.save(frames, root / f"video_{number}.pt")
      np.save(root / f"coords_{number}.npy", coordinates(number))
    cut = root / "video_1.pt"
    cut.write_bytes(cut.read_bytes()[:300])
    torch.save(_Attack(), root / "video_2.pt")
    np.save(root / "coords_3.npy", coordinates(3)[:4])
    (root / "coords_4.npy").unlink()
    torch.save(frames, root / "video_99.pt")
    splits = {"train": [0, 1, 2, 3, 4, 5, 8], "test": [7, 6]}
    for split, numbers in splits.items():
      lines = [f"{k},/home/them/carla/video_{i}.pt" for k, i in enumerate(numbers)]
      (root / f"video_{split}.csv").write_text("\n".join([",path", *lines, ""]))
    return root

  def test_builds(self, root, tmp_path, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"image_size": 8, "held_out": 1}
    with caplog.at_level(logging.WARNING):
      sources = building.build("carla", root, tmp_path / "data", **options)
    assert building.names(sources["train"]) == ["video_0.pt", "video_5.pt"]
    assert building.names(sources["test"]) == ["video_7.pt", "video_6.pt"]
    assert "validation" not in sources  # The one that is kept does not exist.
    assert sources["train"].fps.tolist() == [10.0, 10.0]
    train = sources["train"]
    assert np.array_equal(building.frames(train, "video_5.pt"), noise(5, 5, 8))
    found = train.read_extra(1, "position", np.array([4, 0]))
    assert np.array_equal(found, coordinates(5)[[4, 0], :2].astype(np.float32))
    report = caplog.text
    assert "5 videos were skipped" in report and not (tmp_path / "attacked").exists()
    assert "video_1.pt: not a PyTorch checkpoint" in report
    assert "video_2.pt: refused: it asks for code to be run" in report
    assert "video_3.pt: coords_3.npy: expected [5, 2 or more], found [4, 3]" in report
    assert "video_4.pt: coords_4.npy: " in report
    assert "video_8.pt: no such file" in report
    assert "1 videos are in neither CSV file: video_99.pt" in report

  def test_without_its_lists(self, root, tmp_path):
    (root / "video_test.csv").unlink()
    with pytest.raises(UserError, match="video_test.csv: expected a list of videos"):
      building.build("carla", root, tmp_path / "data", image_size=8)

  def test_lists_that_are_not_utf8(self, root, tmp_path):
    (root / "video_train.csv").write_bytes(b"\xe9/video_0.pt\n")
    with pytest.raises(UserError, match="video_train.csv, line 1: expected UTF-8"):
      building.build("carla", root, tmp_path / "data", image_size=8)

  def test_without_torch(self, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'vdm_jax\[torch\]'"):
      building.build("carla", tmp_path, tmp_path / "data")


def coordinates(number: int) -> np.ndarray:
  """[5, 3] in metres; the third column is the height."""
  return np.random.default_rng(number).uniform(-10, 400, (5, 3))
