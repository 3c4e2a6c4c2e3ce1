"""A steady step: nothing is read by the host, and yet nothing goes unnoticed."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import sharding
from vdm_jax.errors import UserError
from vdm_jax.storage import workdirs
from vdm_jax.training import loop, program, sums


class Line:
  """A trainable with one parameter, whose loss is the mean of its batch."""

  def init(self, key):
    return {"w": jnp.ones(())}

  def loss(self, params, batch, key, train):
    value = jnp.mean(batch["target"]) * params["w"]
    return value, {"loss": jnp.stack([value, jnp.ones(())])}

  def batch_spec(self, batch_size):
    return {"target": jax.ShapeDtypeStruct((batch_size,), jnp.float32)}


class Given:
  """Batches whose target is a function of the step, from 1 on."""

  def __init__(self, programs, target):
    self.placement, self.target, self.step = sharding.batch(programs.mesh), target, 0

  def __next__(self):
    self.step += 1
    batch = {"target": np.full(8, self.target(self.step), np.float32)}
    return jax.device_put(batch, self.placement)

  def get_state(self):
    return self.step

  def set_state(self, state):
    self.step = state


def settings(train, optimizer=None):
  never = {"eval_every": 0, "sample_every": 0, "checkpoint_every": 0}
  return helpers.load_config(
    mesh={"data": 8, "fsdp": 1},
    train={"num_steps": 12, "log_every": 4, **never, **train},
    optimizer={"learning_rate": 1e-6, **(optimizer or {})},
  )


def run(workdir, target, train, optimizer=None, profile=None, **hooks):
  """Trains `Line`; the lines of its log."""
  config = settings(train, optimizer)
  programs = program.Program(Line(), config)
  meta = workdirs.describe(config, "none")
  batches = Given(programs, target)
  hooks = loop.Hooks(**hooks)
  loop.train(programs, batches, str(workdir), meta, hooks=hooks, profile=profile)
  return workdirs.read_metrics(str(workdir))


@contextlib.contextmanager
def no_transfers():
  """Refuses implicit transfers, and any value that the host would read.

  JAX's own guard does not see the latter on CPU, where no copy is made.
  """
  kind = type(jnp.zeros(()))
  value = kind._value

  def refuse(array):
    raise AssertionError("a value was read on the host")

  kind._value = property(refuse)
  try:
    with jax.transfer_guard("disallow"):
      yield
  finally:
    kind._value = value


def test_the_guard_of_these_tests_sees_what_it_should():
  mesh = sharding.make_mesh()  # Eight devices, as those of the loop below.
  array = jax.device_put(jnp.ones(2), sharding.replicated(mesh))
  for read in (np.asarray, jax.device_get, lambda a: float(a.sum())):
    with pytest.raises(AssertionError, match="read on the host"), no_transfers():
      read(array)
  with pytest.raises(Exception, match="Disallowed host-to-device"), no_transfers():
    jax.jit(jnp.sin)(np.ones(2))


@pytest.mark.parametrize("decay_by", ["steps", "time"])
def test_a_steady_step_transfers_nothing(tmp_path, monkeypatch, decay_by):
  advance, guarded = loop._Loop.advance, []

  def steady(self, state, step):
    if step <= 2:  # Compiles: the step, then the sum of two steps' metrics.
      return advance(self, state, step)
    guarded.append(step)
    with no_transfers():
      return advance(self, state, step)

  monkeypatch.setattr(loop._Loop, "advance", steady)
  lines = run(
    tmp_path,
    lambda step: step,
    {"max_seconds": 600.0},
    {"decay": "linear", "decay_by": decay_by},
  )
  assert guarded == list(range(3, 13))
  # Sums of the steps in between are all there.
  assert [line["step"] for line in lines] == [4, 8, 12]
  found = [line["loss"] for line in lines]
  np.testing.assert_allclose(found, [2.5, 6.5, 10.5], rtol=1e-4)


def test_the_host_is_never_more_than_two_steps_ahead(tmp_path, monkeypatch):
  waited, block = [], jax.block_until_ready

  def wait(array):
    waited.append(array)
    return block(array)

  monkeypatch.setattr(loop.jax, "block_until_ready", wait)
  run(tmp_path, lambda step: 1.0, {"log_every": 0})
  assert len(waited) == 12 - loop._AHEAD


def test_bad_steps_in_a_row_stop_a_run_that_is_not_looked_at_every_step(tmp_path):
  def target(step):
    return np.nan if 3 <= step <= 6 else 1.0

  with pytest.raises(UserError, match="step 8: .* not finite 4 steps in a row"):
    run(tmp_path / "a", target, {"max_bad_steps": 4})
  # That the row has ended when the host looks does not hide it; a shorter one passes.
  lines = run(tmp_path / "b", target, {"max_bad_steps": 5})
  assert [line["bad_in_row"] for line in lines] == [2.0, 4.0, 0.0]
  assert [line["bad_total"] for line in lines] == [2.0, 4.0, 4.0]


def test_bad_steps_stop_a_run_that_never_logs(tmp_path, monkeypatch):
  monkeypatch.setattr(loop, "_LOOK_EVERY", 5)
  with pytest.raises(UserError, match="step 5: .* not finite 4 steps in a row"):
    run(
      tmp_path,
      lambda step: np.nan if step > 1 else 1.0,
      {"log_every": 0, "max_bad_steps": 4},
    )


def test_sums_on_the_device_and_means_on_the_host_agree():
  rng = np.random.default_rng(0)
  names = ("loss", "bad_in_row", "bad_total", "learning_rate")
  steps = [
    {name: np.float32([rng.integers(0, 9), 1]) for name in names} for _ in range(6)
  ]
  one_by_one, summed = sums.Means(), sums.Means()
  for step in steps:
    one_by_one.add(step)
  for part in (steps[:4], steps[4:]):
    total = part[0]
    for step in part[1:]:
      total = jax.jit(sums.add)(total, step)
    summed.add(total)
  found = summed.take()
  assert found == one_by_one.take()
  assert found["loss"] == np.mean([step["loss"][0] for step in steps])
  assert found["bad_in_row"] == max(step["bad_in_row"][0] for step in steps)
  assert found["bad_total"] == steps[-1]["bad_total"][0]
  assert found["learning_rate"] == steps[-1]["learning_rate"][0]
  assert summed.take() == {}
