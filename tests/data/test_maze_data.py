"""The data set maze, as ViZDoom renders it, and reading from long videos."""

import math
import os
import sys

import numpy as np
import pytest

from tests.data.test_maze import block_at
from vdm_jax import tasks
from vdm_jax.data import builders, pipeline, records
from vdm_jax.data import source as source_lib
from vdm_jax.data.builders import maze
from vdm_jax.errors import UserError

FIXED = "maze/32px_40frames_3videos_1heldout_4cells"
NEW = "maze/32px_12frames_2videos_newmazes"


class TestNames:
  def test_round_trip(self):
    name = "32px_20frames_7videos_3heldout_newmazes_4cells_2seed"
    config = maze.Maze.parse(name)
    assert config.name == name and not config.fixed and config.held_out == 3
    assert maze.Maze.parse("").name == "64px_300frames_100videos"
    assert maze.Maze.parse("", num_videos=8, workers=3).workers == 3

  def test_workers_do_not_shape_the_data(self):
    config = maze.Maze.parse("", workers=3)
    assert "workers" not in config.options() and "3" not in config.name.split("_")[-1]
    # Not even by the configs that TFDS knows by name.
    assert maze.Maze.parse("").workers == 0

  @pytest.mark.parametrize(
    ("name", "message"),
    [
      ("64px_30film", "expected parts such as 64px, .* found '30film'"),
      ("48px", "maze image_size: expected 16, 32, 64 or 128, found 48"),
      ("2cells", "maze cells: expected 3 to 32, found 2"),
      ("0frames", "maze num_frames: expected >= 1, found 0"),
    ],
  )
  def test_mistakes(self, name, message):
    with pytest.raises(UserError, match=message):
      maze.Maze.parse(name)


def test_without_vizdoom(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "vizdoom", None)
  with pytest.raises(UserError, match=r"pip install 'vdm_jax\[maze\]'"):
    source_lib.ensure_built("maze/32px_8frames_1videos", tmp_path)
  assert not source_lib.list_built(tmp_path)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Two small data sets, built from an empty working directory that stays empty."""
  pytest.importorskip("vizdoom")
  root, before = tmp_path_factory.mktemp("mazes"), os.getcwd()
  empty = tmp_path_factory.mktemp("empty")
  os.chdir(empty)
  try:
    source_lib.ensure_built(FIXED, root)
    source_lib.ensure_built(NEW, root)
  finally:
    os.chdir(before)
  assert not list(empty.iterdir())
  return root


class TestDataSet:
  def test_holds_what_was_asked_for(self, data_dir):
    source = source_lib.load(FIXED, data_dir)
    assert source.frame_shape == (32, 32, 3) and source.lengths.tolist() == [40] * 3
    assert source.fps.tolist() == [8.75] * 3
    assert source_lib.load(FIXED, data_dir, "test").num_videos == 1
    frames = source.read(0, np.arange(40))
    assert frames.std(axis=(1, 2, 3)).min() > 10  # Something is to be seen in each.
    changes = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
    assert 0 < changes.min() and changes.max() < 60

  def test_poses_are_a_smooth_walk_between_the_walls(self, data_dir):
    source = source_lib.load(FIXED, data_dir)
    layout = maze.fixed_layout(maze.Maze.parse(FIXED.split("/")[1]))
    assert source.metadata["map"] == layout.figure()
    for video in range(3):
      poses = source.read_extra(video, "pose", np.arange(40))
      assert not any(layout.solid[block_at(layout, x, y)] for x, y, _ in poses)
      steps = np.diff(poses[:, :2], axis=0)
      turns = (np.diff(poses[:, 2]) + np.pi) % (2 * np.pi) - np.pi
      assert np.hypot(*steps.T).max() < 15
      assert np.abs(turns).max() < math.radians(16.5)
      assert np.abs(poses[:, 2]).max() <= np.float32(np.pi)
      # It looks where it goes, while it does not turn.
      straight = (np.abs(turns) < 0.02) & (np.hypot(*steps.T) > 8)
      course = np.arctan2(steps[:, 1], steps[:, 0])
      error = (course - poses[1:, 2] + np.pi) % (2 * np.pi) - np.pi
      assert straight.any() and np.abs(error[straight]).max() < 0.2

  def test_equal_places_look_equal(self, data_dir):
    """A frame is a function of the pose: other walks see what is stored with them."""
    source = source_lib.load(FIXED, data_dir)
    frames = np.concatenate([source.read(i, np.arange(40)) for i in range(3)])
    poses = np.concatenate(
      [source.read_extra(i, "pose", np.arange(40)) for i in range(3)]
    )
    apart = np.hypot(*(poses[:, None, :2] - poses[None, :, :2]).transpose(2, 0, 1))
    turned = np.abs(
      (poses[:, None, 2] - poses[None, :, 2] + np.pi) % (2 * np.pi) - np.pi
    )
    number = np.arange(len(poses))
    near = (apart < 12) & (turned < 0.1) & (number[:, None] < number)
    far = apart > 200
    pixels = frames.astype(np.float32).reshape(len(frames), -1)
    unlike = np.stack([np.abs(pixels - row).mean(1) for row in pixels])
    assert near.sum() > 20 and far.sum() > 20
    assert np.median(unlike[near]) < 0.5 * np.median(unlike[far])

  def test_is_the_same_for_any_number_of_workers(self, data_dir, tmp_path):
    cls, config = builders.parse(FIXED, workers=1)
    directory = records.build(cls, config, tmp_path)
    for split in ("train", "test"):
      alone = source_lib.VideoSource(directory, split)
      built = source_lib.load(FIXED, data_dir, split)
      assert alone.fingerprint == built.fingerprint
      for video in range(built.num_videos):
        where = (video, np.arange(40))
        assert np.array_equal(alone.read(*where), built.read(*where))
        pose = (video, "pose", np.arange(40))
        assert np.array_equal(alone.read_extra(*pose), built.read_extra(*pose))

  def test_new_mazes(self, data_dir):
    source = source_lib.load(NEW, data_dir)
    assert "map" not in source.metadata and source.num_videos == 2
    first, second = (source.read(i, np.arange(12)) for i in range(2))
    assert np.abs(first.astype(int) - second).mean() > 10

  def test_pipeline_delivers_poses(self, data_dir):
    source = source_lib.load(FIXED, data_dir)
    task = tasks.build({"name": "unconditional", "num_frames": 8})
    options = {"batch_size": 2, "seed": 0, "cond": ("video",), "num_threads": 0}
    batch = next(pipeline.make_pipeline(source, task, extras=("pose",), **options))
    assert batch["extras"]["pose"].shape == (2, 8, 3)
    for row in range(2):
      where = (int(batch["cond"]["video"][row, 0]), batch["frames"].index[row])
      assert np.array_equal(batch["video"][row], source.read(*where))
      pose = source.read_extra(where[0], "pose", where[1])
      assert np.array_equal(batch["extras"]["pose"][row], pose)


class LongVideos(records.ChunkBuilder):
  """Three videos of 1000 tiny frames, with a pose."""

  def frame_shape(self):
    return (2, 2, 1)

  def extras(self):
    return {"pose": records.Extra((3,))}

  def videos(self):
    times = np.arange(1000)
    frames = np.broadcast_to((times % 251)[:, None, None, None], (1000, 2, 2, 1))
    pose = np.repeat(times[:, None], 3, axis=1)
    video = records.Video(frames=frames.astype(np.uint8), extra={"pose": pose})
    return {"train": [video] * 3}


def test_only_chosen_frames_of_long_videos_are_read(tmp_path):
  directory = records.build(LongVideos, records.ChunkConfig(name="long"), tmp_path)
  source = source_lib.VideoSource(directory, "train")
  reads = []

  class Counted:
    def __init__(self, inner):
      self.inner = inner

    def __getitems__(self, keys):
      reads.extend(keys)
      return self.inner.__getitems__(keys)

  source.__dict__["_records"] = Counted(source._records)
  task = tasks.build({"name": "random_subsets", "max_frames": 6})
  options = {"batch_size": 2, "seed": 0, "num_threads": 0, "shuffle": False}
  batches = pipeline.make_pipeline(source, task, extras=("pose",), **options)
  for _ in range(10):
    reads.clear()
    batch = next(batches)
    # A frame is its number: in the picture, in the pose and in the index alike.
    index = batch["frames"].index
    assert np.array_equal(batch["extras"]["pose"][..., 0], index)
    assert np.array_equal(batch["video"][..., 0, 0, 0], index % 251)
    # At most a record for each frame, of 3 x 125 records of 8 frames.
    assert 0 < len(reads) <= 2 * 6
