"""The demo of forecasts: its stages, members that are kept, what is read off them."""

import numpy as np
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.demo import forecast
from vdm_jax.errors import UserError
from vdm_jax.sampling import save


def test_both_variants_are_systems():
  config = helpers.load_config("rvd_digits")
  first = forecast.stage(config, "predictor")
  second = forecast.stage(config, "denoiser")
  without = forecast.direct(config)
  assert systems.build(first).train_only == "predictor"
  assert systems.build(second).train_only == "denoiser"
  assert not systems.build(without).network.settings.residual
  # Weights of the first stage fit the second.
  assert first["model"] == second["model"]
  assert config == helpers.load_config("rvd_digits")  # Left alone.


class Model:
  """Makes frames of the brightness of its seed."""

  def __init__(self, step):
    config = {"sampling": {}, "data": {"name": "x"}}
    self.info = {"config": config, "step": step, "ema": "0.9", "workdir": "run"}
    self.calls = []

  def sample(self, count, *, seed, length, given, batch_size, progress):
    self.calls.append(seed)
    videos = np.full((count, length, 12, 12, 1), seed / 10)
    videos[:, : given.shape[1]] = given
    return videos


def test_members_are_kept_until_the_model_changes(tmp_path):
  from etils import epath

  truth = np.zeros((2, 6, 12, 12, 1), np.uint8)
  model, folder = Model(step=5), epath.Path(tmp_path)
  folders = forecast.sample(folder, model, truth, 2, 3)
  assert model.calls == [0, 1]
  assert save.read(folders[1]).shape == truth.shape
  assert not (folders[0] / "films").exists()
  forecast.sample(folder, model, truth, 3, 3)
  assert model.calls == [0, 1, 2]  # Those there are not made again.
  other = Model(step=6)
  forecast.sample(folder, other, truth, 2, 3)
  assert other.calls == [0, 1]

  def reader(frames):
    """The digit is how bright a frame is."""
    digit = np.rint(frames.mean((-3, -2, -1)) / 12.8 - 10).astype(int).clip(0)
    return np.eye(10)[digit], None

  found = forecast.read(reader, folders, truth, 3)
  # Black frames are digit 0, and so are those of seed 0; seed 1 is another.
  np.testing.assert_array_equal(found["by_lead"], [0.5] * 3)


def test_goals():
  def of(crps):
    return {"crps_fair": {"mean": crps}}

  baselines = {forecast.COPIED: of(0.1), forecast.MOVED: of(0.07), "direct": of(0.06)}
  model = {**of(0.06), "read": {"by_lead": [1.0] * 7 + [0.6, 0.1]}}
  found = forecast.promised(model, baselines)
  assert [goal.met for goal in found] == [True, True, True, False]
  short = {**of(0.05), "read": {"by_lead": [0.9, 0.5]}}
  found = forecast.promised(short, baselines)
  assert "lead time 2" in found[2].name and not found[2].met and found[3].met


def test_only_for_rvd(tmp_path):
  with pytest.raises(UserError, match="expected 'rvd'"):
    forecast.run(helpers.load_config(), tmp_path, seconds=30)
  assert not list(tmp_path.iterdir())
