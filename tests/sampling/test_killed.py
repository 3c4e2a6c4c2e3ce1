"""A long job that is killed outright, as by a power cut, and started again."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.storage import checkpoint, workdirs

LIMIT = 300  # Seconds for anything that is waited for.


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """An export of an untrained FDM."""
  folder = tmp_path_factory.mktemp("export")
  config = helpers.load_config("fdm_maze_small", sampling={"steps": 4})
  config["data"]["frame_shape"] = (8, 8, 3)
  config["model"] |= {"channel_mults": (1,), "attention_resolutions": ()}
  config["train"]["ema"] = ()
  params = jax.jit(systems.build(config).init)(jax.random.key(0))
  meta = {"config": config, "data_fingerprint": None, "vdm_jax": "", "jax": ""}
  checkpoints = checkpoint.Checkpoints(str(folder), keep_last=1)
  checkpoints.save(0, {"params": helpers.lively(params, scale=0.05)}, None, meta)
  checkpoints.close()
  workdirs.write_description(str(folder), meta)
  return folder


def start(workdir, out):
  """The command, started."""
  command = [sys.executable, "-m", "vdm_jax.cli.main", "sample"]
  command += [f"--workdir={workdir}", f"--out={out}", "--length=60", "--num_videos=2"]
  command += ["--plan=hierarchy-2", "--plan_option=step_size=3", "--seed=5"]
  return subprocess.Popen(
    command, cwd=helpers.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
  )


def finish(job):
  output, _ = job.communicate(timeout=LIMIT)
  assert job.returncode == 0, output.decode()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_job_ends_with_the_same_videos(workdir, tmp_path, sent):
  whole = start(workdir, tmp_path / "whole")
  finish(whole)

  job, deadline = start(workdir, tmp_path / "cut"), time.monotonic() + LIMIT
  while len(list((tmp_path / "cut").glob("unfinished/batch_*"))) < 3:
    assert job.poll() is None, job.communicate()[0].decode()
    assert time.monotonic() < deadline
    time.sleep(0.01)
  os.kill(job.pid, sent)
  job.communicate(timeout=LIMIT)
  assert job.returncode != 0
  done = len(list((tmp_path / "cut").glob("unfinished/batch_*")))
  assert done >= 3 and not (tmp_path / "cut" / "videos.npz").exists()

  finish(start(workdir, tmp_path / "cut"))
  with np.load(tmp_path / "whole" / "videos.npz") as one:
    with np.load(tmp_path / "cut" / "videos.npz") as two:
      assert one.files == two.files
      for name in one.files:
        np.testing.assert_array_equal(one[name], two[name])
  assert not (tmp_path / "cut" / "unfinished").exists()
