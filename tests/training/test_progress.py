"""What a run reports: rates, norms, waiting for data, share of the devices' peak."""

import time
import types

import jax
import numpy as np
import pytest

from tests import helpers
from tests.training.test_steady import run
from vdm_jax import experiment
from vdm_jax.preflight import peaks
from vdm_jax.training import optimizer, parameters, program, progress


@pytest.mark.parametrize(
  "decay",
  [
    {"decay": "constant"},
    {"decay": "cosine"},
    {"decay": "exponential", "decay_begin": 2, "decay_rate": 0.5, "decay_floor": 0.1},
    {"decay": "linear", "decay_by": "time"},
  ],
)
def test_the_learning_rate_in_the_log_is_that_of_the_update(tmp_path, decay):
  """Where the gradient never changes, Adam's update is the rate itself."""

  def target(step):
    return np.nan if step in (2, 3) else 5.0  # Skipped: the rate stays where it was.

  lines = run(
    tmp_path,
    target,
    {"log_every": 1, "max_bad_steps": 0, "max_seconds": 600.0},
    {"learning_rate": 0.01, "warmup_steps": 3, "clip_norm": 0.0, **decay},
  )
  rates = {line["step"]: line["learning_rate"] for line in lines}
  norms = {line["step"]: line["update_norm"] for line in lines if line["loss"]}
  assert len(norms) == 10
  for step, norm in norms.items():
    np.testing.assert_allclose(norm, rates[step], rtol=1e-4)
  np.testing.assert_allclose(rates[1], 0.01 / 3, rtol=0.05)
  assert rates[4] == pytest.approx(0.02 / 3, rel=0.05)  # The second update.
  assert all(line["grad_norm"] == 5.0 for line in lines if line["loss"])


def test_rates_of_another_share_of_the_run_are_other_rates():
  config = helpers.load_config()["optimizer"]
  config = {**config, "warmup_steps": 0, "decay": "linear", "decay_by": "time"}
  rate = optimizer.rate_of_update({**config, "learning_rate": 1.0}, 10)
  assert [float(rate(5, progress)) for progress in (0.0, 0.25, 1.0)] == [1, 0.75, 0]


def test_waiting_for_data_is_told_from_the_rest(tmp_path):
  def slow(step):
    time.sleep(0.05)
    return 1.0

  lines = run(tmp_path, slow, {"num_steps": 8, "log_every": 4})
  for line in lines:
    assert 0.05 <= line["data_seconds"] <= line["step_seconds"]
    total = line["data_seconds"] + line["compute_seconds"]
    assert total == pytest.approx(line["step_seconds"])
    assert line["step_seconds"] == pytest.approx(1 / line["steps_per_second"])
    assert line["videos_per_second"] == pytest.approx(8 * line["steps_per_second"])
  # The first window compiles; in the second one hardly anything is computed.
  assert lines[1]["data_seconds"] > 0.5 * lines[1]["step_seconds"]
  assert "tflops_per_second" not in lines[0]


def test_work_and_share_of_the_peak_are_logged(tmp_path, capsys):
  counted = []

  def flops():
    counted.append(1)
    time.sleep(0.3)  # Counting is no training time.
    return 3e9

  work = progress.Work(flops, peak=6e10)
  lines = run(tmp_path, lambda step: 1.0, {"num_steps": 8}, work=work)
  assert len(counted) == 1
  for line in lines:
    rate = line["steps_per_second"]
    assert line["tflops_per_second"] == pytest.approx(3e-3 * rate)
    assert line["share_of_peak"] == pytest.approx(0.05 * rate)
  assert "% of peak" in capsys.readouterr().err


@pytest.mark.integration
def test_the_work_of_a_config_is_that_of_its_step():
  """Twice the batch is twice the work; devices share it."""

  def flops(devices, batch_size):
    config = helpers.load_config(train={"batch_size": batch_size})
    system = experiment.systems.build(config)
    programs = program.Program(system, config, devices=jax.devices()[:devices])
    work = experiment._work(programs)
    assert work.peak is None  # Of a CPU nobody says one.
    return work.flops()

  once = flops(1, 8)
  assert once > 1e6
  assert flops(4, 8) == pytest.approx(once, rel=1e-3)
  # What does not grow with the batch: the optimizer, and it has no products.
  assert flops(1, 16) == pytest.approx(2 * once, rel=1e-2)


@pytest.mark.parametrize(
  "kind, tflops",
  [
    ("TPU v4", 275),
    ("TPU v5 lite", 197),
    ("TPU v5p", 459),
    ("TPU v6 lite", 918),
    ("NVIDIA A100-SXM4-80GB", 312),
    ("NVIDIA H100 80GB HBM3", 989),
    ("NVIDIA H100 PCIe", 756),
    ("NVIDIA H200", 989),
    ("cpu", None),
  ],
)
def test_chips_are_known_by_their_names(kind, tflops):
  found = peaks.peak(types.SimpleNamespace(device_kind=kind))
  assert found == (tflops and tflops * 1e12)


def test_the_table_of_parameters_counts_every_module():
  params = {
    "backbone": {
      "stem": {"kernel": np.zeros((3, 3, 2, 4)), "bias": np.zeros(4)},
      "out": {"kernel": np.zeros((4, 5))},
    },
    "scale": np.zeros(()),
  }
  lines = [line.split() for line in parameters.table(params).splitlines()]
  assert lines[0] == ["module", "shapes", "parameters", "share"]
  found = {line[0]: line[1:] for line in lines[1:]}
  assert found["backbone/stem"] == ["bias", "4,", "kernel", "3x3x2x4", "76", "78.35%"]
  assert found["backbone/out"] == ["kernel", "4x5", "20", "20.62%"]
  assert found["."] == ["scale", "scalar", "1", "1.03%"]
  assert lines[-1] == ["total", "97", "100.00%"]
  assert len(lines) == 5


def test_a_run_writes_the_table_and_says_the_total(tmp_path, capsys):
  run(tmp_path, lambda step: 1.0, {"num_steps": 1})
  assert (tmp_path / "parameters.txt").read_text().splitlines()[-1].split()[1] == "1"
  assert f"1 parameters: {tmp_path / 'parameters.txt'}" in capsys.readouterr().err
