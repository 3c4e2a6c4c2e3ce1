"""`benchmarks/train_step.py`: the smallest size, without the PyTorch side."""

import json

import jax
import pytest

from benchmarks import programs, sizes, table, train_step
from vdm_jax import systems


def test_config_describes_the_size():
  size = sizes.SIZES["tiny"]
  config = sizes.config("tiny")
  assert tuple(config["data"]["frame_shape"]) == (16, 16, 1)
  assert config["task"]["num_frames"] == size.frames
  assert config["train"]["batch_size"] == size.batch


@pytest.mark.parametrize(
  ("name", "million"), [("fdm64", 19.6), ("ramvid64", 40.5), ("rvd64", 37.6)]
)
def test_systems_are_of_the_size_that_was_measured(name, million):
  config = sizes.config(name)
  system = systems.build(config)
  params = jax.eval_shape(system.init, jax.random.key(0))
  found = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert found / 1e6 == pytest.approx(million, abs=0.05)
  assert config["train"]["batch_size"] == 2


@pytest.mark.parametrize("name", sizes.SYSTEMS)
def test_every_system_has_a_batch(name):
  system = systems.build(sizes.config(name))
  batch, spec = programs.random_batch(system, 2), system.batch_spec(2)
  jax.tree.map(lambda a, b: (a.shape == b.shape) or pytest.fail(name), batch, spec)


def test_share_divides_the_batch():
  assert train_step.share(list(range(8)), 4) == [0, 1, 2, 3]
  assert train_step.share(list(range(3)), 4) == [0, 1]
  assert train_step.share([0], 5) == [0]


@pytest.mark.integration
def test_measures_and_shows(capsys):
  config, parts = sizes.config("nano"), ["forward", "sample"]
  result = train_step.run(config, jax.devices()[:2], parts, turns=2)
  ours = result["vdm_jax"]
  assert ours["parameters"] > 0
  # A gradient is two more products for every one of the forward pass.
  assert 2.5 < ours["flop"]["step"] / ours["flop"]["forward"] < 3.5
  assert ours["flop"]["sample"] == pytest.approx(ours["flop"]["forward"], rel=0.05)
  assert len(ours["seconds"]["forward"]) == 2 and min(ours["seconds"]["forward"]) > 0
  json.dumps(result)
  table.show(table.rows("nano", result, parts))
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4
  assert len(set(map(len, lines))) == 1


def test_ratios_are_to_the_better_layout():
  def side(flop, seconds):
    times = {"step": seconds}
    return {"flop": {"step": flop}, "seconds": times, "processor_seconds": times}

  result = {
    "vdm_jax": side(10, [1.0, 2.0, 9.0]),
    "torch plain": side(20, [8.0, 8.0, 8.0]),
    "torch channels_last": side(20, [2.0, 4.0, 4.0]),
  }
  found = table.ratios(result, ["step"])["step"]
  assert found["against"] == "torch channels_last"
  assert found["time"] == pytest.approx(0.5)
  assert found["time_per_flop"] == pytest.approx(1.0)


def test_input_pipeline():
  found = train_step.input_pipeline(sizes.config("nano"), 0.1, videos=20)
  assert found["videos_per_second"] > 0
