"""`kill -9` at a random step, twice, then the same command: bit-equal parameters."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from vdm_jax.storage import checkpoint, workdirs

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 40


def start(workdir, data_dir):
  command = [
    sys.executable, "-m", "vdm_jax.cli.main", "train",
    f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={workdir}",
    f"--config.train.num_steps={STEPS}", "--config.train.num_samples=0",
    "--config.train.checkpoint_every=3", "--config.train.eval_every=7",
    "--cpu_devices=2",
  ]  # fmt: skip
  env = {**os.environ, "PYTHONPATH": str(ROOT), "VDM_JAX_DATA": str(data_dir)}
  return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)


def last_step(workdir):
  lines = workdirs.read_metrics(str(workdir))
  return lines[-1]["step"] if lines else 0


def everything(workdir):
  """All arrays of the newest checkpoint: parameters, averages, optimizer."""
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  assert checkpoints.steps[-1] == STEPS
  state, position = checkpoints.restore(checkpoints.shapes())
  return jax.tree.leaves(state), position


@pytest.mark.slow
def test_two_kills_change_nothing(tmp_path):
  assert start(tmp_path / "straight", tmp_path / "data").wait(600) == 0
  rng = random.Random(time.time_ns())
  for earliest in (2, 18):
    process = start(tmp_path / "killed", tmp_path / "data")
    target = earliest + rng.randrange(12)
    while last_step(tmp_path / "killed") < target:
      assert process.poll() is None, "ended before it was killed"
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last_step(tmp_path / "killed") < STEPS
  assert start(tmp_path / "killed", tmp_path / "data").wait(600) == 0
  (straight, position), (killed, again) = map(
    everything, (tmp_path / "straight", tmp_path / "killed")
  )
  assert position == again
  for a, b in zip(straight, killed, strict=True):
    np.testing.assert_array_equal(a, b)
  steps = [line["step"] for line in workdirs.read_metrics(str(tmp_path / "killed"))]
  assert steps == list(range(1, STEPS + 1))
