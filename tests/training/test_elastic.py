"""Processes of a run are killed, and it resumes on other ones: nothing is lost."""

import concurrent.futures
import functools
import random
import re
import signal
import time

import jax
import numpy as np
import pytest

from tests.training import test_processes as processes
from vdm_jax.storage import checkpoint, workdirs

pytestmark = pytest.mark.integration

STEPS = 40
FLAGS = ["--config.train.eval_every=7", "--config.train.checkpoint_every=3"]


def last_step(run):
  lines = workdirs.read_metrics(str(run))
  return lines[-1]["step"] if lines else 0


def trained(run, since, step):
  """Whether a run that was started at a time has trained, and to a step."""
  file = run / "metrics.jsonl"
  return file.exists() and file.stat().st_mtime > since and last_step(run) >= step


def killed(running, victim, wait_for):
  """Kills one process once something holds; what the others said, all ended."""
  processes.wait_for(wait_for, running)
  running[victim].send_signal(signal.SIGKILL)
  began, said = time.monotonic(), {}
  for number, process in enumerate(running):
    output = process.communicate(timeout=60)[0]
    if number != victim:
      said[number] = output
      assert process.returncode != 0, output[-3000:]
  assert time.monotonic() - began < 60
  return said


def everything(run):
  """All arrays of the newest checkpoint, and where the data stood."""
  checkpoints = checkpoint.Checkpoints(run, read_only=True)
  assert checkpoints.steps[-1] == STEPS
  state, position = checkpoints.restore(checkpoints.shapes())
  return jax.tree.leaves(state), position


def test_a_killed_process_ends_the_other_and_the_run_resumes(tmp_path):
  run, data = tmp_path / "run", tmp_path / "data"
  running = processes.start(run, data, steps=100_000, processes=2, devices=2)
  said = killed(running, 1, lambda: checkpoint.newest(str(run)))[0]
  step = re.search(
    r"error: process 1 \(.+\) died: its connection is closed. Process 0 cannot go on "
    r"without it and ends. Start all processes again, with the same command: the run "
    r"resumes from its checkpoint of step (\d+)",
    said,
  )
  assert step and "Traceback" not in said, said[-3000:]
  step = int(step[1])
  first, _ = processes.train(run, data, steps=step + 1, processes=2, devices=2)
  assert f"resuming {run} from step {step}" in first
  steps = [line["step"] for line in workdirs.read_metrics(str(run))]
  assert steps == list(range(1, step + 2))


@pytest.mark.slow
def test_processes_that_resume_read_their_programs_from_the_workdir(
  tmp_path, monkeypatch
):
  """The first process does: of CPUs, JAX's key of a program is another in each."""
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  monkeypatch.setenv("JAX_DEBUG_LOG_MODULES", "jax._src.compiler")
  run, found = tmp_path / "run", []
  for steps in (1, 2):
    flags = ["--config.train.eval_every=0"]
    running = processes.start(
      run, tmp_path / "data", steps, processes=2, devices=2, flags=flags
    )
    # At once: one that nobody listens to waits with what it says.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      said = list(pool.map(lambda process: process.communicate()[0], running))
    assert [process.returncode for process in running] == [0, 0], said
    found.append("cache hit for 'jit__step'" in said[0])
    assert list((run / "programs").rglob("jit__step*-cache"))
  assert found == [False, True]


@pytest.mark.slow
def test_ten_kills_of_one_of_two_processes_change_nothing(tmp_path):
  data, named = tmp_path / "data", 0
  two = {"steps": STEPS, "processes": 2, "devices": 2, "flags": FLAGS}
  processes.train(tmp_path / "straight", data, **two)
  run, rng = tmp_path / "killed", random.Random(time.time_ns())
  for kill in range(10):
    victim = rng.randrange(2)
    since, running = time.time(), processes.start(run, data, **two)
    # The last ones leave steps to do.
    target = min(3 * kill + rng.randrange(1, 7), STEPS - 4)
    # Not before all have joined: one that waits for the first does so for minutes.
    said = killed(running, victim, functools.partial(trained, run, since, target))
    assert last_step(run) < STEPS
    named += f"process {victim} (" in said[1 - victim]
    # JAX itself ends a process without the first one: then it may be quicker.
    assert f"process {victim} (" in said[1 - victim] or victim == 0, said
  print(f"{named} of 10 named")
  processes.train(run, data, **two)
  (straight, position), (again, same) = (
    everything(tmp_path / "straight"),
    everything(run),
  )
  assert position == same
  for a, b in zip(straight, again, strict=True):
    np.testing.assert_array_equal(a, b)
  steps = [line["step"] for line in workdirs.read_metrics(str(run))]
  assert steps == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_run_wanders_over_devices_and_processes_killed_on_the_way(tmp_path):
  data, rng = tmp_path / "data", random.Random(time.time_ns())
  one = {"steps": STEPS, "devices": 1, "flags": FLAGS}
  processes.train(tmp_path / "straight", data, **one)
  run = tmp_path / "run"
  layouts = [
    {**one},
    {**one, "devices": 8},
    {**one, "devices": 8, "flags": [*FLAGS, "--config.mesh.fsdp=4"]},
    {**one, "devices": 4, "processes": 2},
  ]
  for number, layout in enumerate(layouts):
    since, running = time.time(), processes.start(run, data, **layout)
    target = 9 * number + rng.randrange(1, 9)
    victim = rng.randrange(len(running))
    killed(running, victim, functools.partial(trained, run, since, target))
    assert last_step(run) < STEPS
  processes.train(run, data, **one)
  (straight, position), (again, same) = (
    everything(tmp_path / "straight"),
    everything(run),
  )
  assert position == same
  for a, b in zip(straight, again, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-3)
  lines, wandered = processes.losses(tmp_path / "straight"), processes.losses(run)
  assert list(wandered) == list(range(1, STEPS + 1)) == list(lines)
  for step, values in lines.items():
    np.testing.assert_allclose(wandered[step], values, rtol=2e-3)
