"""Weights & Biases by a stand-in; metrics.jsonl and TensorBoard are in test_runs.py."""

import importlib.util
import sys
import types

import pytest

from tests.training.test_steady import run
from vdm_jax import processes
from vdm_jax.errors import UserError
from vdm_jax.training import writers


class Run:
  """As much of a run of wandb as is used."""

  def __init__(self, settings):
    self.settings, self.points, self.axes, self.finished = settings, [], [], False

  def define_metric(self, name, step_metric):
    self.axes.append((name, step_metric))

  def log(self, values):
    assert not self.finished
    self.points.append(values)

  def finish(self):
    self.finished = True


@pytest.fixture
def wandb(monkeypatch):
  """The stand-in; `runs` are those that were started."""
  module = types.ModuleType("wandb")
  # `find_spec` asks a loaded module for it.
  module.__spec__ = importlib.util.spec_from_loader("wandb", loader=None)
  module.runs = []
  module.Error = type("Error", (Exception,), {})

  def init(**settings):
    module.runs.append(Run(settings))
    return module.runs[-1]

  module.init = init
  module.Video = lambda data, format: (data.read(), format)
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


def one(workdir):
  return lambda: [writers.WeightsAndBiases("films", str(workdir), {"seed": 3})]


def test_a_run_goes_to_weights_and_biases_and_is_one_there_after_a_resume(
  tmp_path, wandb
):
  workdir = tmp_path / "mine"
  lines = run(workdir, lambda step: step, {"num_steps": 8}, writers=one(workdir))
  (first,) = wandb.runs
  assert first.finished and first.axes == [("*", "step")]
  assert [point["step"] for point in first.points] == [4, 8]
  for point, line in zip(first.points, lines, strict=True):
    assert point == {k: v for k, v in line.items() if k != "time"}
  run(workdir, lambda step: step, {}, writers=one(workdir))
  again = wandb.runs[1]
  assert [point["step"] for point in again.points] == [12]
  assert again.settings == first.settings
  assert first.settings["resume"] == "allow" and first.settings["name"] == "mine"
  assert first.settings["project"] == "films" and first.settings["config"] == {
    "seed": 3
  }
  other = tmp_path / "other"
  run(other, lambda step: step, {"num_steps": 1}, writers=one(other))
  assert wandb.runs[2].settings["id"] != first.settings["id"]


def test_steps_that_were_all_skipped_have_no_loss_and_films_are_handed_on(
  tmp_path, wandb
):
  writer = one(tmp_path)()[0]
  writer.scalars(4, {"loss": None, "bad_total": 4.0, "time": 1e9})
  writer.gif(4, "samples", b"GIF89a", (2, 8, 8, 3))
  assert wandb.runs[0].points == [
    {"step": 4, "bad_total": 4.0},
    {"step": 4, "samples": (b"GIF89a", "gif")},
  ]


def test_other_processes_than_the_first_start_no_run(tmp_path, wandb, monkeypatch):
  monkeypatch.setattr(processes, "is_first", lambda: False)
  run(tmp_path, lambda step: 1.0, {"num_steps": 1}, writers=one(tmp_path))
  assert not wandb.runs


def test_a_refusal_is_one_error_and_nothing_is_trained(tmp_path, wandb):
  def refuse(**settings):
    raise wandb.Error("No API key\nconfigured.")

  wandb.init = refuse
  match = "`wandb=films`: No API key configured.; expected .* WANDB_MODE=offline"
  with pytest.raises(UserError, match=match):
    run(tmp_path, lambda step: 1.0, {}, writers=one(tmp_path))
  assert not (tmp_path / "metrics.jsonl").exists()


def test_a_missing_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"`wandb=films`: .*'vdm_jax\[wandb\]'"):
    writers.check_installed("films")
