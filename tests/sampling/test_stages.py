"""Long jobs: stopped anywhere, they resume and end with the same videos."""

import functools

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import save, stages


@functools.cache
def model():
  config = helpers.load_config(sampling={"steps": 2})
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  return sampling.Model(system, params, {"config": config, "step": 0})


def sample(**options):
  given = np.linspace(-1, 1, 2 * 12 * 12, dtype=np.float32).reshape(2, 12, 12, 1)
  return model().sample(
    10, length=10, given=given, batch_size=8, plan_options={"overlap": 2}, **options
  )


class Killed(Exception):
  pass


@pytest.mark.parametrize("last_words", [0, 2, 5])
def test_a_stopped_job_ends_with_the_same_videos(tmp_path, monkeypatch, last_words):
  whole = sample()
  save, saved = stages.Stages.save, []

  def dies(self, *arguments):
    if len(saved) == last_words:
      raise Killed
    save(self, *arguments)
    saved.append(arguments[:2])

  monkeypatch.setattr(stages.Stages, "save", dies)
  with pytest.raises(Killed):
    sample(unfinished=tmp_path / "job")
  assert len(list((tmp_path / "job").glob("batch_*"))) == last_words

  # What is done is not done again.
  window, calls = sampling.Model.window, []

  def counted(self, *arguments):
    calls.append(1)
    return window(self, *arguments)

  monkeypatch.setattr(stages.Stages, "save", save)
  monkeypatch.setattr(sampling.Model, "window", counted)
  np.testing.assert_array_equal(sample(unfinished=tmp_path / "job"), whole)
  assert len(calls) == 2 * 4 - last_words  # Two batches of four windows.


def test_stages_are_kept_until_the_videos_are_on_disk(tmp_path, monkeypatch):
  out, job = tmp_path / "out", tmp_path / "out" / "unfinished"
  videos = sample(unfinished=job)

  def full(*_, **__):
    raise OSError("no space left on device")

  with monkeypatch.context() as broken, pytest.raises(OSError, match="no space"):
    broken.setattr(save, "save_overview", full)
    save.save(out, videos, {}, films=False)
  # Nothing is sampled again.
  with monkeypatch.context() as watched:
    watched.setattr(sampling.Model, "window", full)
    again = sample(unfinished=job)
  np.testing.assert_array_equal(again, videos)
  save.save(out, again, {}, films=False)
  assert save.is_complete(out) and not job.exists()


def test_another_job_does_not_go_on_with_it(tmp_path):
  description = {"seed": 0, "length": 8}
  stages.Stages(tmp_path / "job", description)
  stages.Stages(tmp_path / "job", dict(description))
  with pytest.raises(UserError, match="seed: 0 there, 1 here"):
    stages.Stages(tmp_path / "job", {"seed": 1, "length": 8})


def test_a_recurrent_state_comes_back(tmp_path):
  store = stages.Stages(tmp_path / "job", {})
  rows, index = np.array([0, 1]), np.array([3, 4])
  values = np.zeros((2, 2, 2, 1), np.float32)
  for number in range(3):
    state = stages.leaves({"a": np.full(3, number), "b": np.full(2, -number)})
    store.save(0, number, stages.Stage(rows, index, values, {"first": number}, state))
  found = list(store.finished(0))
  assert [stage.plan_state["first"] for stage in found] == [0, 1, 2]
  # Only the newest is kept, as resuming needs no other.
  assert [len(stage.carried) for stage in found] == [0, 0, 2]
  np.testing.assert_array_equal(found[-1].carried[0], [2, 2, 2])
  assert list(store.finished(1)) == []


def test_half_a_file_is_no_stage(tmp_path):
  store = stages.Stages(tmp_path / "job", {})
  (tmp_path / "job" / ".batch_00000_stage_00000.npz.1a.part").write_bytes(b"PK\x03")
  assert list(store.finished(0)) == []


@pytest.mark.parametrize("name", ["num_videos", "batch_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_there_are_videos_and_batches(name, value):
  options = {"num_videos": 1, "label": [0] * 3, **{name: value}}
  with pytest.raises(UserError, match=f"`{name}={value}`: expected >= 1"):
    model().sample(**options)
