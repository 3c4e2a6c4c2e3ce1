"""Roll-outs: the recurrent state goes from frame to frame, and through a stop."""

import functools
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import cascade, stages

SHAPE = (4, 4, 1)


@functools.cache
def model(estimate_frame=False):
  config = helpers.load_config("rvd_digits")
  config["data"]["frame_shape"] = SHAPE
  config["model"] |= {"channels": 8, "channel_mults": (1, 1), "predictor_mults": (1,)}
  config["model"] |= {"context_factor": 1.0, "residual_scale": 0.5}
  config["model"]["estimate_frame"] = estimate_frame
  config["diffusion"]["num_steps"] = 20
  config["sampling"] |= {"steps": 3}
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  return sampling.Model(system, params, {"config": config, "step": 0})


def clip(length=3, seed=0):
  values = np.random.default_rng(seed).uniform(-1, 1, (length, *SHAPE))
  return values.astype(np.float32)


def test_frames_come_from_all_frames_before_them_and_no_later_ones():
  given = clip()
  out = model().sample(2, given=given, length=6)
  assert out.shape == (2, 6, *SHAPE) and np.isfinite(out).all()
  np.testing.assert_array_equal(out[:, :3], np.stack([given] * 2))
  # Members of an ensemble differ, and a longer video begins with the shorter one.
  assert np.abs(out[0, 3:] - out[1, 3:]).max() > 1e-3
  np.testing.assert_array_equal(model().sample(2, given=given, length=5), out[:, :5])
  # The first frame reaches the last one, four windows later, by the state alone.
  other = given.copy()
  other[0] *= -1
  changed = model().sample(2, given=other, length=6)
  assert np.abs(changed[:, -1] - out[:, -1]).max() > 1e-5


def test_a_low_resolution_video_and_a_model_below_are_refused():
  small = np.zeros((1, 6, 2, 2, 1), np.float32)
  with pytest.raises(UserError, match="a roll-out is of residuals"):
    model().sample(1, given=clip(), length=6, low_res=small, low_res_frames=range(6))
  with pytest.raises(UserError, match="a roll-out takes no frames between"):
    cascade.length(model(), model().system, 8)


def test_a_frame_is_prediction_and_scaled_residual():
  """Residuals are clipped to +-2, of whatever they are divided by."""
  given, system = clip(), model().system
  out = model().sample(1, given=given, length=4)
  assert system.threshold_bound == 4.0
  window = np.concatenate([given, np.zeros((1, *SHAPE), np.float32)])[None]
  mu = system.encode(model().params, window, None, {}).base[:, -1]
  assert 1e-3 < np.abs(out[:, -1] - mu).max() <= 2.0 + 1e-6


def test_an_estimated_frame_stays_a_frame():
  """Estimates are clipped so that prediction and residual end in [-1, 1]."""

  def loud(estimate_frame):
    quiet = model(estimate_frame)
    params = jax.device_get(quiet.params)
    head = jax.tree.map(lambda a: 100 * a, params["denoiser"]["head_1"])
    params = {**params, "denoiser": {**params["denoiser"], "head_1": head}}
    made = sampling.Model(quiet.system, params, quiet.info)
    return np.abs(made.sample(2, given=clip(), length=4)[:, 3:]).max()

  assert 0.9 < loud(True) <= 1.0 + 1e-6
  assert loud(False) > 1.1


class Killed(Exception):
  pass


def test_a_stopped_roll_out_goes_on_from_its_state(tmp_path, monkeypatch):
  def sample(**options):
    return model().sample(2, given=clip(), length=6, seed=4, **options)

  whole = sample()
  save, saved = stages.Stages.save, []

  def dies(self, *args):
    save(self, *args)
    saved.append(args)
    if len(saved) == 2:
      raise Killed

  monkeypatch.setattr(stages.Stages, "save", dies)
  with pytest.raises(Killed):
    sample(unfinished=tmp_path / "job")
  monkeypatch.setattr(stages.Stages, "save", save)
  np.testing.assert_array_equal(sample(unfinished=tmp_path / "job"), whole)


def roll_outs(count, batch_size, **settings):
  """Samples videos frame by frame, and as one program."""
  ask = {"given": clip(), "length": 6, "seed": 4, "batch_size": batch_size, **settings}
  return model().sample(count, **ask), model().sample(count, whole=True, **ask)


@pytest.mark.integration
def test_a_whole_roll_out_is_the_same_frames_after_several_levels():
  # As a user has it: the suite's XLA_FLAGS let two programs round differently.
  script = (
    "import numpy as np; from tests.sampling import test_rvd;"
    "np.testing.assert_allclose(*test_rvd.roll_outs(3, 2), atol=1e-4)"
  )
  environment = {**os.environ, "XLA_FLAGS": ""}
  subprocess.run(
    [sys.executable, "-c", script], cwd=helpers.ROOT, env=environment, check=True
  )


def test_a_whole_roll_out_is_the_same_frames(tmp_path, monkeypatch):
  count, devices = jax.device_count() + 1, jax.device_count()
  # One noise level: what rounding differs by would grow from level to level.
  np.testing.assert_allclose(*roll_outs(count, devices, steps=1), atol=1e-4)

  ask = {"given": clip(), "length": 6, "seed": 4, "batch_size": devices}
  found = model().sample(count, whole=True, **ask)
  # Stopped after the first of two batches, it resumes with the second.
  rollout, calls = sampling.Model.rollout, []

  def dies(self, *args):
    calls.append(1)
    if len(calls) == 2:
      raise Killed
    return rollout(self, *args)

  monkeypatch.setattr(sampling.Model, "rollout", dies)
  with pytest.raises(Killed):
    model().sample(count, whole=True, unfinished=tmp_path / "job", **ask)
  again = model().sample(count, whole=True, unfinished=tmp_path / "job", **ask)
  np.testing.assert_array_equal(again, found)
  assert len(calls) == 3


def test_a_whole_roll_out_with_nothing_to_sample():
  out = model().sample(1, given=clip(), length=3, whole=True)
  np.testing.assert_array_equal(out[0], clip())


def test_too_few_given_frames_are_named():
  with pytest.raises(UserError, match="at least 2 frames, found 1 given"):
    model().sample(1, given=clip(1), length=5)


@pytest.mark.parametrize(
  "plan, message",
  [
    ("two_at_once", r"samples its last one; a stage samples \[3, 4\]"),
    ("again_from_the_start", "begins at frame 0; .* must go on with frame 3"),
  ],
)
def test_a_plan_that_is_no_roll_out_is_refused(plan, message):
  with pytest.raises(UserError, match=message):
    model().sample(1, given=clip(), length=5, plan=f"{__file__}:{plan}")


def test_what_a_roll_out_cannot_do_is_refused():
  with pytest.raises(UserError, match="`low_res`: a roll-out is of residuals"):
    model().sample(1, given=clip(), length=5, low_res=np.zeros((1, 2, 2, 1)))
  with pytest.raises(UserError, match="cascade: a roll-out takes no frames"):
    cascade.length(model(), model().system, 5)
  with pytest.raises(UserError, match="`restore_given=False`"):
    model().sample(1, given=clip(), length=5, restore_given=False)
  gap = {"given": clip(5), "given_frames": (0, 1, 2, 3, 5), "length": 7}
  assert model().sample(1, plan=f"{__file__}:over_a_gap", **gap).shape[1] == 7
  with pytest.raises(UserError, match=r"holds frames \[4, 5, 6\]"):
    model().sample(1, plan=f"{__file__}:over_a_gap", whole=True, **gap)


def over_a_gap(*, length, given, window):
  """A plan whose second window reads a sampled and a given frame."""
  yield [0, 1, 2, 3], [4]
  yield [4, 5], [6]


def two_at_once(*, length, given, window):
  """A plan that samples two frames of a window."""
  yield given, [3, 4]


def again_from_the_start(*, length, given, window):
  """A plan whose second window reads what the first has read."""
  yield given, [3]
  yield [*given, 3], [4]
