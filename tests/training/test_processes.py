"""Two real processes train like one, and a run may change from one to the other."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from vdm_jax.storage import workdirs

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(workdir, data_dir, steps, processes=1, devices=4, flags=()):
  """`vdm-jax train` of the debug config in so many processes on this machine."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  command = [
    sys.executable, "-m", "vdm_jax.cli.main", "train",
    f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={workdir}",
    f"--config.train.num_steps={steps}", "--config.train.num_samples=0",
    f"--cpu_devices={devices // processes}", *flags,
  ]  # fmt: skip
  env = {**os.environ, "PYTHONPATH": str(ROOT), "VDM_JAX_DATA": str(data_dir)}
  running = []
  for index in range(processes):
    several = [
      "--distributed", f"--coordinator=localhost:{port}",
      f"--num_processes={processes}", f"--process_id={index}",
    ]  # fmt: skip
    running.append(
      subprocess.Popen(
        command + several * (processes > 1),
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  return running


def finish(running):
  """Waits for all; what they printed."""
  outputs = [process.communicate(timeout=600)[0] for process in running]
  for process, output in zip(running, outputs, strict=True):
    assert process.returncode == 0, output[-3000:]
  return outputs


def train(*args, **kwargs):
  return finish(start(*args, **kwargs))


def wait_for(condition, running, seconds=300):
  """Polls until something holds, while all processes live."""
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until and all(p.poll() is None for p in running)
    time.sleep(0.2)


def losses(workdir):
  lines = workdirs.read_metrics(str(workdir))
  return {
    line["step"]: (line["loss"], line.get("validation_loss", 0)) for line in lines
  }


def weights(workdir):
  params, _ = workdirs.read_weights(str(workdir))
  import jax

  return jax.tree.leaves(params)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  folder = tmp_path_factory.mktemp("alone")
  train(folder / "run", folder / "data", steps=4)
  return folder


def test_two_processes_train_like_one(alone, tmp_path):
  train(tmp_path / "run", alone / "data", steps=4, processes=2)
  one, two = losses(alone / "run"), losses(tmp_path / "run")
  assert sorted(two) == [1, 2, 3, 4]
  for step in one:
    np.testing.assert_allclose(two[step], one[step], rtol=1e-5)


def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
  train(tmp_path / "run", alone / "data", steps=2, processes=2)
  train(tmp_path / "run", alone / "data", steps=4, processes=1, devices=2)
  one, changed = losses(alone / "run"), losses(tmp_path / "run")
  assert sorted(changed) == [1, 2, 3, 4]
  for step in one:
    np.testing.assert_allclose(changed[step], one[step], rtol=1e-4)
  for a, b in zip(weights(tmp_path / "run"), weights(alone / "run"), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_two_processes_start_from_the_weights_of_a_run(alone, tmp_path):
  flags = [f"--init_from={alone / 'run'}", "--config.mesh.fsdp=2"]
  outputs = train(
    tmp_path / "run", alone / "data", steps=1, processes=2, devices=2, flags=flags
  )
  assert "arrays taken" in outputs[0] and "arrays taken" not in outputs[1]
  train(tmp_path / "one", alone / "data", steps=1, devices=1, flags=flags[:1])
  several, one = losses(tmp_path / "run"), losses(tmp_path / "one")
  np.testing.assert_allclose(several[1], one[1], rtol=1e-5)
  fresh = losses(alone / "run")[1][0]
  assert abs(several[1][0] - fresh) > 1e-3 * fresh  # It did not start anew.


@pytest.mark.parametrize(
  ("number", "to"),
  [
    (signal.SIGTERM, [1]),
    pytest.param(signal.SIGTERM, [0], marks=pytest.mark.slow),
    pytest.param(signal.SIGTERM, [0, 1], marks=pytest.mark.slow),
    pytest.param(signal.SIGINT, [0, 1], marks=pytest.mark.slow),
  ],
)
def test_a_signal_to_any_process_stops_all_after_a_checkpoint(
  alone, tmp_path, number, to
):
  """A preempted pod: SIGTERM at some hosts; Ctrl-C reaches all processes at once."""
  run = tmp_path / "run"
  running = start(run, alone / "data", steps=100_000, processes=2, devices=2)
  wait_for(lambda: (run / "metrics.jsonl").exists() and losses(run), running)
  for index in to:
    running[index].send_signal(number)
  finish(running)  # All of them exit 0.
  saved = [int(path.name) for path in (run / "checkpoints").iterdir()]
  assert saved and max(saved) >= max(losses(run))
  # It is a checkpoint that a single process goes on from.
  train(run, alone / "data", steps=max(saved) + 1, devices=1)
  assert max(losses(run)) == max(saved) + 1
