"""What is due after a step: steps are on disk before anything else may fail."""

import os
import signal

import pytest

from tests.training.test_steady import run
from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint


def steps(workdir):
  return checkpoint.Checkpoints(str(workdir), read_only=True).steps


def constant(step):
  return 1.0


def test_a_failure_after_a_checkpoints_step_does_not_cost_it(tmp_path):
  sampled = []

  def sample(step, params, log):
    sampled.append(step)
    if sampled == [4]:
      raise MemoryError("no room for samples")

  every = {"checkpoint_every": 4, "sample_every": 4}
  with pytest.raises(MemoryError, match="no room"):
    run(tmp_path, constant, every, sample=sample)
  assert steps(tmp_path) == [4]
  run(tmp_path, constant, every, sample=sample)
  assert sampled == [4, 8, 12]


def test_the_last_checkpoint_comes_before_the_last_samples(tmp_path):
  def sample(step, params, log):
    raise MemoryError("no room for samples")

  with pytest.raises(MemoryError, match="no room"):
    run(tmp_path, constant, {}, sample=sample)
  assert steps(tmp_path) == [12]


def test_a_preempted_run_only_logs_and_saves(tmp_path):
  sampled, measured = [], []

  def sample(step, params, log):
    sampled.append(step)
    os.kill(os.getpid(), signal.SIGTERM)

  def measure(params):
    measured.append(1)
    return {"fvd": 1.0}

  every = {"sample_every": 1, "eval_fvd_every": 1}
  lines = run(tmp_path, constant, every, sample=sample, measure=measure)
  assert sampled == [1] and len(measured) == 1
  assert steps(tmp_path) == [2] and lines[-1]["step"] == 2


def test_a_run_resumes_from_its_best_checkpoint_if_there_is_no_other(tmp_path):
  measured = []

  def measure(params):
    measured.append(1)
    if len(measured) == 2:
      raise MemoryError("no room for samples")
    return {"fvd": 1.0}

  best = {"eval_fvd_every": 2, "best_by": "fvd"}
  with pytest.raises(MemoryError, match="no room"):
    run(tmp_path, constant, best, measure=measure)
  assert not steps(tmp_path)
  with pytest.raises(UserError, match="a run of another config"):
    run(tmp_path, constant, {**best, "batch_size": 16}, measure=measure)
  seen = []

  def target(step):
    seen.append(step)
    return 1.0

  run(tmp_path, target, best, measure=measure)
  assert seen == list(range(3, 13))


def test_a_run_keeps_a_checkpoint(tmp_path):
  with pytest.raises(UserError, match="keep_last: expected >= 1, found 0"):
    run(tmp_path, constant, {"keep_last": 0})


def test_a_workdir_that_cannot_be_is_named(tmp_path):
  (tmp_path / "file").touch()
  for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
    with pytest.raises(UserError, match=f"`workdir={workdir}`: expected a folder that"):
      run(workdir, constant, {})
