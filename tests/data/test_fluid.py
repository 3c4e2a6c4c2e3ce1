"""The fluid simulation from a tiny array in the authors' format."""

import numpy as np
import pytest

from tests.data import building
from vdm_jax.errors import UserError

OPTIONS = dict(image_size=4, train_frames=20, train_run=10, test_run=4)


@pytest.fixture
def root(tmp_path):
  """Frames of 8x8 whose value is their number; 20 for training, 10 for tests."""
  root = tmp_path / "simulation"
  root.mkdir()
  array = np.broadcast_to(np.arange(30.0)[:, None, None], (30, 8, 8))
  np.save(root / "vortex.npy", array.astype(np.float32))
  return root


def values(source) -> list[int]:
  """The grey of every frame of every clip, in order."""
  clips = [building.frames(source, name) for name in building.names(source)]
  frames = np.concatenate(clips)
  assert (frames == frames[:, :1, :1]).all()
  return frames[:, 0, 0, 0].tolist()


def test_runs_and_limits(root, tmp_path):
  sources = building.build("fluid", root, tmp_path, **OPTIONS)
  train, test = sources["train"], sources["test"]
  assert train.config_name == "4px_20train_10trainrun_4testrun"
  assert train.frame_shape == (4, 4, 1)
  assert building.names(train) == ["train_0", "train_10"]
  assert train.lengths.tolist() == [10, 10] and test.lengths.tolist() == [4, 4, 2]
  # The training frames span [0, 255]; test frames beyond are clipped.
  assert values(train) == np.rint(np.arange(20) * 255 / 19).astype(int).tolist()
  assert set(values(test)) == {255}


def test_limits_of_all_frames_as_the_authors(root, tmp_path):
  sources = building.build("fluid", root, tmp_path, limits="all", **OPTIONS)
  expected = np.rint(np.arange(30) * 255 / 29).astype(int).tolist()
  assert values(sources["train"]) + values(sources["test"]) == expected


def test_shrinking_averages_before_rounding(tmp_path):
  array = np.zeros((3, 4, 4))
  array[:, ::2, ::2] = [[[1.0]], [[0.5]], [[0.25]]]
  np.save(tmp_path / "vortex.npy", array)
  options = OPTIONS | dict(image_size=2, train_frames=3)
  sources = building.build("fluid", tmp_path, tmp_path / "data", **options)
  assert set(sources) == {"train"}
  assert values(sources["train"]) == [64, 32, 16]


@pytest.mark.parametrize(
  ("array", "options", "message"),
  [
    (np.zeros((30, 8)), {}, r"expected an array of numbers \[frames, H, W\], found"),
    (np.ones((30, 8, 8)), {}, "expected finite values that differ, found 1.0 to 1.0"),
    (np.full((30, 8, 8), np.nan), {}, "expected finite values that differ, found nan"),
    (np.eye(30)[:, :, None], {"train_frames": 31}, "at most the 30 frames of"),
    (np.eye(30)[:, :, None], {"test_run": 0}, "test_run: expected a number >= 1"),
    (np.eye(30)[:, :, None], {"limits": "none"}, "limits: expected one of train, all"),
  ],
)
def test_mistakes(tmp_path, array, options, message):
  np.save(tmp_path / "vortex.npy", array)
  with pytest.raises(UserError, match=message):
    building.build("fluid", tmp_path, tmp_path / "data", **OPTIONS | options)


def test_not_an_array(tmp_path):
  with pytest.raises(UserError, match=r"expected vortex\.npy, found none"):
    building.build("fluid", tmp_path, tmp_path / "data")
  (tmp_path / "vortex.npy").write_bytes(b"no array")
  with pytest.raises(UserError, match="expected an array in NumPy's format"):
    building.build("fluid", tmp_path, tmp_path / "data")
