"""The demo of RaMViD's tasks: what is given, what is measured, what is drawn."""

import json
import types

import numpy as np
import PIL.Image
import pytest

from tests import helpers
from vdm_jax.data import sheet
from vdm_jax.demo import tasks
from vdm_jax.errors import UserError


def test_places_of_a_window():
  found = tasks.places(8)
  assert found == {
    "prediction": [0, 1],
    "infilling": [0, 7],
    "up-sampling": [0, 2, 4, 6],
    "generation": [],
  }
  assert tasks.places(16)["prediction"] == [0, 1, 2, 3]


def test_nearest_given_frame_is_the_earlier_of_two():
  truth = np.arange(5, dtype=np.uint8).reshape(1, 5, 1, 1, 1)
  found = tasks.nearest_given(truth, [0, 2])
  assert found.ravel().tolist() == [0, 0, 2, 2, 2]


def test_linear_blend():
  truth = np.array([0, 0, 0, 90, 0, 60], np.uint8).reshape(1, 6, 1, 1, 1)
  # Beyond the given frames it is the outermost one; at given ones themselves.
  found = tasks.linear_blend(truth, [0, 3, 5]).ravel()
  assert found.tolist() == [0, 30, 60, 90, 75, 60]
  found = tasks.linear_blend(truth, [3, 0]).ravel()
  assert found.tolist() == [0, 30, 60, 90, 90, 90]


class Model:
  """Answers with the truth: perfect where frames are given, and in generation."""

  def __init__(self, truth):
    self.truth = truth
    self.calls = []
    self.info = {"step": 7}
    self.system = types.SimpleNamespace(init=lambda key: {})
    self.trained = True
    self.plan, self.plan_options = None, {}

  def set_params(self, params):
    self.trained = False

  def sample(self, num_videos, *, given, given_frames, plan, length, **options):
    # Prediction alone goes from frame to frame.
    ahead = list(given_frames) == [0, 1]
    assert plan == (self.plan if ahead else "fill")
    assert options["plan_options"] == (self.plan_options if ahead else None)
    assert num_videos == len(self.truth)
    assert length == self.truth.shape[1]
    self.calls.append(list(given_frames))
    if not self.trained:
      return np.zeros(self.truth.shape)
    whole = self.truth / 127.5 - 1.0
    if given_frames:
      np.testing.assert_allclose(given, whole[:, given_frames], atol=1e-6)
    return whole


def reader(clips):
  """A stand-in: the mean of each quarter of a frame."""
  n, t, h, w, _ = clips.shape
  quarters = clips.reshape(n, t, 2, h // 2, 2, w // 2).mean((3, 5))
  return quarters.reshape(n, t, 4), quarters.reshape(n, t, 4)


def test_numbers_and_pictures(tmp_path):
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 256, (6, 8, 12, 12, 1), dtype=np.uint8)
  model = Model(truth)
  sampled = tasks.sample_tasks(model, truth)
  assert model.calls == list(tasks.places(8).values())
  measured = tasks.measure(truth, sampled, reader)
  for name in ("prediction", "infilling", "up-sampling"):
    assert measured[name]["ssim"] == pytest.approx(1.0)
    # Frames that are met exactly are in no mean of PSNR.
    assert measured[name]["exact"] == 1 and np.isnan(measured[name]["psnr"])
    for baseline in tasks.BASELINES:
      copies = tasks.of_baseline(truth, baseline)[name]
      assert copies["psnr_pooled"] < 12 and copies["ssim"] < 0.5
      assert copies["exact"] == 0 and copies["psnr_pooled_error"] > 0
  assert abs(measured["generation"]["frechet"]) < 1e-6

  tasks.draw(tmp_path, truth, sampled)
  with PIL.Image.open(tmp_path / "tasks.png") as picture:
    colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
  assert (colours == sheet.OBSERVED).all(1).any()  # Given frames are framed.
  with PIL.Image.open(tmp_path / "tasks.gif") as film:
    assert film.n_frames >= 2


def test_goals_are_set_against_the_best_baseline():
  def of(up, infill, ahead, read=0.8):
    return {
      "up-sampling": {"psnr_pooled": up},
      "infilling": {"psnr_pooled": infill},
      "prediction": {"psnr_pooled": ahead, "read": read},
    }

  baselines = {
    tasks.NEAREST: of(10.0, 12.0, 10.0),
    tasks.BLEND: of(14.0, 11.0, 13.0),
    "untrained model": {"generation": 510.0},
    "real against real": {"generation": 10.0},
  }
  model = {**of(17.5, 14.9, 12.5), "generation": {"frechet": 110.0}}
  found = tasks.promised(model, baselines)
  assert [round(goal.value, 3) for goal in found] == [3.5, 2.9, 2.5, 0.8, 0.2]
  assert [goal.met for goal in found] == [True, False, True, True, True]


def test_only_for_models_of_its_task(tmp_path):
  with pytest.raises(UserError, match="random_mask"):
    tasks.run(helpers.load_config(), tmp_path, seconds=20.0)


def test_results_name_every_rate(tmp_path, monkeypatch):
  """The loop over rates, around stand-ins for training and model."""
  truth = np.random.default_rng(1).integers(0, 256, (4, 8, 12, 12, 1), dtype=np.uint8)
  trained = []
  stand_in = Model(truth)
  fake = types.SimpleNamespace(train=lambda *a, **k: (reader, None))
  monkeypatch.setattr(tasks, "digits", fake)
  monkeypatch.setattr(tasks.timed, "unless_stopped", lambda result: None)
  monkeypatch.setattr(tasks.sources, "ensure_built", lambda *a: None)
  monkeypatch.setattr(
    tasks.timed,
    "train",
    lambda config, workdir, *a: trained.append(config["task"]["uncondition_rate"]),
  )
  monkeypatch.setattr(tasks.sampling, "load", lambda workdir: stand_in)
  monkeypatch.setattr(tasks, "_clips", lambda *a: truth)
  monkeypatch.setattr(tasks, "_UNTRAINED", 4)
  config = helpers.load_config()
  config["task"] = {"name": "random_mask", "uncondition_rate": 0.25}
  config["plan"] = {"name": "blocks", "keep": 2}
  stand_in.plan, stand_in.plan_options = "blocks", {"keep": 2}
  results = tasks.run(config, tmp_path, seconds=20.0, rates=[0, 0.5], num_clips=4)
  assert trained == [0.0, 0.5]
  assert list(results["models"]) == ["p_0", "p_0.5"]
  text = (tmp_path / "table.txt").read_text()
  assert text.count(", 7 steps") == 2 and "it was trained for 7 steps" in text
  assert "goals:" in text
  assert json.loads((tmp_path / "results.json").read_text()) == results
  assert results["model"]["steps"] == 7
  assert set(results["baselines"]) == {
    *tasks.BASELINES,
    "untrained model",
    "real against real",
  }
  for goal in results["goals"]:
    assert list(goal) == ["name", "value", "limit", "met"]
