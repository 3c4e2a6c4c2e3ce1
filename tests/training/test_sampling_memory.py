"""What samples during training cost in memory, and that it is counted."""

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import preflight, sampling, sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.preflight import estimate, lowerable, measure
from vdm_jax.sampling import in_training
from vdm_jax.training import program as training

MESHES = [{"data": 1, "fsdp": 8}, {"data": 2, "fsdp": 4}, {"data": 8, "fsdp": 1}]


@pytest.fixture(autouse=True)
def small_arrays_are_split(monkeypatch):
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 64)


def buffers(params):
  return [
    part.data.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves(params)
    for part in leaf.addressable_shards
  ]


@pytest.mark.parametrize("mesh", MESHES)
def test_samples_are_made_with_the_arrays_of_the_state(mesh, monkeypatch):
  config = helpers.load_config(
    mesh={**mesh, "rules": [["head/kernel", -2]] if mesh["fsdp"] > 1 else []}
  )
  system = systems.build(config)
  state = training.Program(system, config).init(jax.random.key(0))
  average = next(iter(state.ema.values()))
  models = []

  def sample(self, count, **settings):
    models.append(self)
    assert buffers(self.params) == buffers(average)
    return np.zeros((count, 4, 12, 12, 1), np.float32)

  monkeypatch.setattr(sampling.Model, "sample", sample)
  make, _ = in_training.sampler(config, system, 2, 4, None)
  assert make(average).shape == (2, 4, 12, 12, 1)
  assert models[0].params is None  # Nothing holds on to them afterwards.
  assert lowerable.build(config, "train", jax.devices()).sampling_bytes == 0


def test_a_sampler_that_fails_holds_nothing(monkeypatch):
  config = helpers.load_config()
  system = systems.build(config)
  models = []

  def sample(self, count, **settings):
    models.append(self)
    raise UserError("no")

  monkeypatch.setattr(sampling.Model, "sample", sample)
  make, _ = in_training.sampler(config, system, 2, 4, None)
  params = jax.eval_shape(system.init, jax.random.key(0))
  with pytest.raises(UserError, match="^no$"):
    make(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), params))
  assert models[0].params is None


@pytest.mark.integration
def test_weights_of_one_of_several_processes_are_counted(monkeypatch):
  """Four of the eight devices are one process's: it holds all weights on them."""
  devices = jax.devices()
  monkeypatch.setattr(lowerable, "_of_a_process", lambda mesh: devices[:4])
  config = helpers.load_config(mesh={"data": 1, "fsdp": 8})
  built = lowerable.build(config, "train", devices)
  assert 4 * built.parameters / 4 <= built.sampling_bytes < 4 * built.parameters / 3
  found = preflight.preflight(config, None, say=lambda line: None)
  assert found["hbm"]["sampling"] == built.sampling_bytes
  assert "weights beside the state" in preflight.render(found)
  silent = helpers.load_config(mesh={"data": 1, "fsdp": 8}, train={"num_samples": 0})
  assert lowerable.build(silent, "train", devices).sampling_bytes == 0
  # A device that holds the state, and a step, but not these weights beside it.
  capacity = built.argument_bytes + built.sampling_bytes // 2
  monkeypatch.setattr(measure, "capacity", lambda devices: capacity)
  needed, _ = estimate.training(config, devices)
  assert needed >= built.argument_bytes + built.sampling_bytes > capacity
  found = preflight.preflight(config, None, try_knobs=False, say=lambda line: None)
  assert found["fits"] is False and "sampling between steps" in found["reason"]
