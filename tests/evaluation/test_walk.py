"""Walks: speeds, their distances, outliers and walls, where the answer is known."""

import numpy as np
import pytest

from vdm_jax.evaluation import walk
from vdm_jax.models.position_regressor import Grid

NONE = np.zeros(200, bool)


def straight(speed, length=50, fps=2.0, observed=NONE, start=(0.0, 0.0)):
  """A walk along x at a speed in units per second."""
  x = start[0] + np.arange(length) * speed / fps
  return walk.Walk.of(np.stack([x, np.full(length, start[1])], 1), observed, fps)


def test_speed_is_in_units_per_second_and_only_of_steps_a_model_made():
  observed = NONE.copy()
  observed[:3] = observed[6] = True
  found = straight(4.0, length=8, observed=observed)
  # Steps 0-1 and 1-2 join given frames; from 2 on each has a frame that was made.
  np.testing.assert_array_equal(found.counts, [0, 0, 1, 1, 1, 1, 1])
  np.testing.assert_allclose(found.speed, 4.0)
  assert len(found.speed) == len(found.reached) == 5


def test_distance_of_shifted_speeds_is_the_shift():
  slow = [straight(s) for s in (1.0, 2.0, 3.0)]
  fast = [straight(s + 0.75) for s in (1.0, 2.0, 3.0)]
  assert walk.speed_distance(slow, fast, 10.0) == pytest.approx(0.75)
  assert walk.speed_distance(slow, slow, 10.0) == 0


def test_a_jump_is_an_outlier_and_not_in_the_distance():
  steady = straight(2.0, length=51)
  jump = np.where(np.arange(51) >= 20, 300.0, 0.0)
  jumped = walk.Walk.of(steady.position + jump[:, None], NONE, steady.fps)
  assert walk.outliers([jumped], 10.0) == pytest.approx(1 / 50)
  assert walk.outliers([steady], 10.0) == 0
  assert walk.speed_distance([jumped], [steady], 10.0) == pytest.approx(0)
  assert np.isnan(walk.speed_distance([jumped], [steady], 1.0))


def test_distance_of_places_moves_shares_of_frames():
  grid = Grid((0.0, 0.0, 40.0, 40.0), 4)
  here = [straight(0.0, start=(5.0, 5.0))]
  there = [straight(0.0, start=(35.0, 5.0))]
  assert walk.place_distance(here, there, grid) == pytest.approx(30.0)
  assert walk.place_distance(here, here, grid) == pytest.approx(0.0)
  # Half of the frames have 30 to go.
  assert walk.place_distance(here, here + there, grid) == pytest.approx(15.0)
  off = [straight(0.0, start=(-5.0, 5.0))]
  assert np.isnan(walk.place_distance(off, here, grid))


def test_walls():
  walls = np.array([[10.0, -5.0, 10.0, 5.0]])
  through = straight(2.0, length=21)  # 0, 1, .. 20; reaches the wall at a step's end.
  ends = through.position + [0.5, 0.0]
  assert walk.through_walls([walk.Walk.of(ends, NONE, 2.0)], walls) == 1 / 20
  past = walk.Walk.of(ends + [0.0, 6.0], NONE, 2.0)
  assert walk.through_walls([past], walls) == 0
