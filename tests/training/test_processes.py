"""Two real processes train, sample and measure like one, and stop together."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from vdm_jax.sampling import save
from vdm_jax.storage import workdirs

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[2]


def start(workdir, data_dir, steps, processes=1, devices=4, flags=()):
  """`vdm-jax train` of the debug config in so many processes on this machine."""
  flags = [
    f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={workdir}",
    f"--config.train.num_steps={steps}", "--config.train.num_samples=0", *flags,
  ]  # fmt: skip
  return launch("train", data_dir, processes, devices, flags)


def launch(name, data_dir, processes, devices, flags):
  """`vdm-jax NAME` in so many processes that share so many devices."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  command = [
    sys.executable, "-m", "vdm_jax.cli.main", name,
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


def test_two_processes_share_a_clock_and_the_first_one_traces(alone, tmp_path):
  flags = ["--config.optimizer.decay=linear", "--config.optimizer.decay_by=time",
    "--config.train.max_seconds=6000", "--config.train.log_every=2",
    "--config.train.eval_every=0", "--profile=2:3"]  # fmt: skip
  train(tmp_path / "run", alone / "data", steps=4, processes=2, devices=2, flags=flags)
  lines = workdirs.read_metrics(str(tmp_path / "run"))
  assert [line["step"] for line in lines] == [2, 4]
  # The first steps began at once; the clock is shared where it logs.
  peak = 1e-3
  assert lines[1]["learning_rate"] < peak
  assert lines[1]["learning_rate"] > 0.9 * peak
  traces = list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
  assert len(traces) == 1


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
  # It is a checkpoint that a single process resumes from.
  train(run, alone / "data", steps=max(saved) + 1, devices=1)
  assert max(losses(run)) == max(saved) + 1


def test_two_processes_sample_like_one(alone, tmp_path):
  """Five videos, two at a time: three batches, of which the last is not full."""

  def sample(out, processes, *flags):
    several = [
      f"--workdir={alone / 'run'}", f"--out={out}", "--num_videos=5", "--batch_size=2",
      "--steps=2", *flags,
    ]  # fmt: skip
    finish(launch("sample", alone / "data", processes, processes, several))
    assert not (out / "unfinished").exists()
    return save.read(out)

  one = sample(tmp_path / "one", 1)
  two = sample(tmp_path / "two", 2)
  np.testing.assert_array_equal(one, two)
  assert len(np.unique(two[:, 0, 0, 0])) > 1


def test_samples_while_two_processes_train_are_written_once(alone, tmp_path):
  flags = ["--config.train.num_samples=2", "--config.train.sample_every=1",
    "--config.sampling.steps=2", "--config.mesh.fsdp=2"]  # fmt: skip
  train(tmp_path / "run", alone / "data", steps=1, processes=2, devices=4, flags=flags)
  made = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
  assert made == ["step_0000001.gif", "step_0000001.png"]


_FEATURES = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 1)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
number, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, number)
from vdm_jax.evaluation import clip_sources, feature_store
feature_store._CLIPS = 3
made = []
class Means:
  def describe(self): return {"network": "means"}
  def __call__(self, clips):
    clips = list(clips)
    made.extend(int(clip[0]) for clip in clips)
    return np.stack([clip.astype(np.float32) for clip in clips])
source = clip_sources.Source(
  "s", "drawn", 10, 0, 0.0, "x", read=lambda n: np.array([n, 2 * n]))
found = feature_store.features(
  source, lambda n, video: video, Means(), folder, {}, progress=False)
np.testing.assert_array_equal(found, [[n, 2 * n] for n in range(10)])
print("MADE", sorted(made))
"""


def test_two_processes_share_the_features_of_a_source(tmp_path):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-c", _FEATURES]
  outputs = finish([
    subprocess.Popen(
      [*command, str(number), str(port), str(tmp_path / "features")], env=env,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for number in range(2)
  ])  # fmt: skip
  assert "MADE [0, 1, 2, 6, 7, 8]" in outputs[0] and "MADE [3, 4, 5, 9]" in outputs[1]


def several(data_dir, *flags_of_each):
  """Two trainings that differ by their flags; what they printed, all failed."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  running = []
  for number, flags in enumerate(flags_of_each):
    (process,) = launch("train", data_dir, 1, 1, [
      f"--config={ROOT / 'configs' / 'debug.py'}", f"--coordinator=localhost:{port}",
      "--num_processes=2", f"--process_id={number}", *flags,
    ])  # fmt: skip
    running.append(process)
  outputs = [process.communicate(timeout=120)[0] for process in running]
  assert [process.returncode for process in running] == [2, 2], outputs
  return outputs


def test_processes_that_do_not_agree_are_told_and_none_hangs(alone, tmp_path):
  run = f"--workdir={tmp_path / 'run'}"
  outputs = several(alone / "data", [run], [run, "--config.train.num_steps=9"])
  for output in outputs:
    assert "config: process 1 has another one than process 0" in output
  outputs = several(alone / "data", [run], [f"--workdir={tmp_path / 'other'}"])
  for output in outputs:
    assert "process 1 does not see what process 0 writes there" in output
  assert not list(tmp_path.rglob(".seen_*"))


def test_a_coordinator_that_does_not_answer_is_named(tmp_path):
  flags = [
    f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={tmp_path / 'run'}",
    "--coordinator=localhost:1", "--num_processes=2", "--process_id=1",
    "--coordinator_timeout=2",
  ]  # fmt: skip
  (process,) = launch("train", tmp_path, 1, 1, flags)
  output = process.communicate(timeout=120)[0]
  assert process.returncode == 2, output[-2000:]
  assert "--coordinator=localhost:1: does not answer within 2 s" in output
  assert "Traceback" not in output


def test_a_process_that_never_comes_is_told(tmp_path):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  flags = [
    f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={tmp_path / 'run'}",
    f"--coordinator=localhost:{port}", "--num_processes=2", "--process_id=0",
    "--coordinator_timeout=2",
  ]  # fmt: skip
  (process,) = launch("train", tmp_path, 1, 1, flags)
  output = process.communicate(timeout=120)[0]
  assert process.returncode == 2, output[-2000:]
  assert "--coordinator_timeout=2: not all 2 processes have joined" in output
  assert "Traceback" not in output and "stack trace" not in output
