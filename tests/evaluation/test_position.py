"""The position regressor: cells, its loss, and that it learns places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vdm_jax as vdm
from tests.evaluation import places
from tests.helpers import load_config
from vdm_jax import systems
from vdm_jax.data import builders, records
from vdm_jax.data.builders import maze
from vdm_jax.errors import UserError
from vdm_jax.evaluation import positions, protocols
from vdm_jax.frames import clip
from vdm_jax.models.position_regressor import Answer, Grid, position
from vdm_jax.storage import checkpoint, workdirs

GRID = Grid(places.BOUNDS, 4)


def small(**model):
  """A config of the regressor, two frames an example."""
  return places.config(task={"num_frames": 2}, model=model)


def batch_of(config, batch_size, seed=0, valid=None):
  rng = np.random.default_rng(seed)
  t = config["task"]["num_frames"]
  xy = rng.uniform(places.BOUNDS[:2], places.BOUNDS[2:], (batch_size * t, 2)).astype(
    np.float32
  )
  frames = places.frames_of(xy).reshape(batch_size, t, 8, 8, 3)
  pose = np.concatenate([xy, np.zeros((len(xy), 1), np.float32)], 1)
  batch = {
    "video": jnp.asarray(frames),
    "frames": clip(batch_size, t),
    "cond": {},
    "extras": {"pose": jnp.asarray(pose.reshape(batch_size, t, 3))},
    "example": jnp.arange(batch_size),
    "stratum": jnp.arange(batch_size) / batch_size,
  }
  return batch if valid is None else batch | {"valid": jnp.asarray(valid)}


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_cells(array):
  inside = array([[-8.0, 0.0], [24.0, 16.0], [0.0, 3.9], [0.0, 4.0], [-8.0, 16.0]])
  np.testing.assert_array_equal(GRID.cell(inside), [0, 15, 4, 5, 3])
  outside = array([[-8.1, 0.0], [0.0, 16.1], [np.nan, 1.0]])
  np.testing.assert_array_equal(GRID.cell(outside), -1)
  cells = array(np.arange(16))
  np.testing.assert_array_equal(GRID.cell(GRID.centre(cells)), cells)


def test_the_head_of_the_named_cell_gives_the_position():
  offset = np.zeros((1, 16, 2), np.float32)
  offset[0, 6] = 0.5, -0.25
  answer = Answer(jnp.zeros((1, 16)), jnp.asarray(offset))
  cell = jnp.asarray([6])  # ix 1, iy 2: 8 by 4 units, its centre at (4, 10).
  np.testing.assert_allclose(position(GRID, answer, cell), [[8.0, 9.0]])


def test_the_config_has_the_bounds_and_cells_of_the_maze():
  config = load_config("position_regressor_maze")
  _, options = builders.parse(config["data"]["name"])
  layout = maze.fixed_layout(options)
  grid = systems.build(config).grid
  assert list(grid.bounds) == layout.figure()["bounds"]
  assert grid.cells == options.cells == layout.cells
  # The middle of every cell of the maze is the middle of a cell of the grid.
  centres = [layout.centre((x, y)) for x in range(6) for y in range(6)]
  np.testing.assert_array_equal(grid.cell(np.asarray(centres, float)), np.arange(36))


def test_a_regressor_of_averaged_pixels_reads_such_frames(tmp_path):
  records.build(places.Places, records.ChunkConfig(name=""), tmp_path)
  made = places.config(str(tmp_path), data={"frame_shape": [4, 4, 3], "pool": 2})
  reader = positions.PositionReader(systems.build(made), {}, {"config": made})
  assert positions.open_data(reader, "", "", "test").frame_shape == (4, 4, 3)


def test_a_number_of_videos_is_checked_at_once(tmp_path):
  settings = {"workdir": str(tmp_path / "none"), "num_videos": -1}
  with pytest.raises(UserError, match="`num_videos`: expected >= 0, found -1"):
    protocols.build("position", settings).run(tmp_path)


def test_batch_spec_and_loss_agree():
  config = small()
  system = systems.build(config)
  batch = batch_of(config, 3)
  spec = system.batch_spec(3)
  for name in ("video", "extras", "cond"):
    found = jax.tree.map(lambda a: (a.shape, a.dtype), batch[name])
    assert found == jax.tree.map(lambda a: (a.shape, a.dtype), spec[name])
  assert system.pipeline_extras == ("pose",) and not system.can_sample


def test_it_cannot_be_loaded_to_sample(tmp_path):
  config = {**small(), "train": {"ema": []}}
  checkpoints = checkpoint.Checkpoints(str(tmp_path))
  checkpoints.save(1, {"params": {}}, None, workdirs.describe(config, ""))
  checkpoints.close()
  with pytest.raises(UserError, match="samples videos.*system 'position_regressor'"):
    vdm.load(str(tmp_path))


@pytest.fixture(scope="module")
def score():
  """batch -> (loss, metrics) of fresh parameters, compiled."""
  system = systems.build(small())
  params = jax.jit(system.init)(jax.random.key(0))
  loss = jax.jit(lambda batch: system.loss(params, batch, jax.random.key(1), False))
  return loss


def test_rows_that_do_not_count_change_nothing(score):
  batch = batch_of(small(), 3, valid=[True, True, False])
  loss, metrics = score(batch)
  batch["extras"]["pose"] = batch["extras"]["pose"].at[2].set(5.0)
  again, _ = score(batch)
  assert loss == again
  assert metrics["position_error"][1] == 4


def test_a_frame_outside_the_map_is_counted_and_not_scored(score):
  batch = batch_of(small(), 3, valid=[True, True, True])
  batch["extras"]["pose"] = batch["extras"]["pose"].at[0].set(-100.0)
  loss, metrics = score(batch)
  np.testing.assert_array_equal(metrics["outside"], [2, 6])
  assert np.isfinite(loss) and metrics["cell_accuracy"][1] == 4


def test_augmentation_is_of_training_alone_and_of_a_whole_clip():
  system = systems.build(small(brightness=0.2, blur=0.5))
  rng = np.random.default_rng(0)
  frame = jnp.asarray(rng.uniform(-1, 1, (8, 8, 3)), jnp.float32)
  clips = jnp.stack([frame, frame])
  seen = system._augment(jax.random.key(0), clips)
  np.testing.assert_array_equal(seen[0], seen[1])
  assert np.std(seen) < np.std(clips)  # Blurred.
  plain = systems.build(small())
  np.testing.assert_allclose(plain._augment(jax.random.key(0), clips), clips)


@pytest.mark.parametrize(
  "model, message",
  [
    ({"bounds": (0.0, 0.0, 0.0, 1.0)}, "config.model.bounds"),
    ({"cells": 0}, "config.model.cells"),
    ({"extra_width": 1}, "config.model.extra_width"),
  ],
)
def test_a_wrong_field_is_named(model, message):
  with pytest.raises(UserError, match=message):
    systems.build(small(**model))
