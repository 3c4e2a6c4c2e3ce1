"""The compiled step: devices, micro-batches, bad steps, averages, optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import helpers
from vdm_jax import sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.training import optimizer, program


def make(devices=1, system=None, **sections):
  config = helpers.load_config(**sections)
  return program.Program(
    system or systems.build(config), config, devices=jax.devices()[:devices]
  )


def place(programs, batch):
  return jax.device_put(batch, sharding.batch(programs.mesh))


def run(programs, steps=2, seed=0, change=None):
  """Parameters and losses after some steps from lively parameters."""
  state = programs.init(jax.random.key(0))
  # The step donates its state: every tree must hold buffers of its own.
  copies = [helpers.lively(state.params) for _ in range(1 + len(state.ema))]
  state = state.replace(
    params=copies[0], ema=dict(zip(state.ema, copies[1:], strict=True))
  )
  state = jax.device_put(state, programs.state_sharding)
  losses = []
  for step in range(steps):
    batch = helpers.random_batch(programs.trainable, 8, seed=seed + step)
    if change:
      batch = change(step, batch)
    state, metrics = programs.step(state, place(programs, batch), jax.random.key(1))
    losses.append(metrics["loss"][0] / metrics["loss"][1])
  return jax.device_get(state), [float(loss) for loss in losses]


@functools.cache
def reference():
  return run(make())


def assert_same(a, b, tolerance=2e-4):
  (state_a, losses_a), (state_b, losses_b) = a, b
  np.testing.assert_allclose(losses_a, losses_b, rtol=1e-5)
  for x, y in zip(
    jax.tree.leaves(state_a.params), jax.tree.leaves(state_b.params), strict=True
  ):
    np.testing.assert_allclose(x, y, atol=tolerance)


@pytest.mark.parametrize(
  "devices, mesh, accumulate",
  [
    (8, {"data": -1, "fsdp": 1}, 1),
    pytest.param(8, {"data": 2, "fsdp": 4}, 1, marks=pytest.mark.integration),
    pytest.param(2, {"data": 1, "fsdp": -1}, 4, marks=pytest.mark.integration),
  ],
)
def test_losses_and_parameters_do_not_depend_on_the_mesh(
  devices, mesh, accumulate, monkeypatch
):
  # The debug network is small: let its arrays be split all the same.
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 64)
  programs = make(devices, mesh=mesh, train={"accumulate": accumulate})
  if programs.mesh.shape["fsdp"] > 1:
    split = [
      s for s in jax.tree.leaves(programs.state_sharding) if not s.is_fully_replicated
    ]
    assert len(split) > 20
  assert_same(run(programs), reference())


@pytest.mark.integration
def test_what_is_dropped_does_not_depend_on_mesh_or_micro_batches():
  model = {"dropout": 0.3}
  whole = run(make(model=model))
  assert_same(run(make(2, model=model, train={"accumulate": 4})), whole)
  assert not np.allclose(whole[1], reference()[1], rtol=1e-4)


def test_draws_belong_to_the_place_in_the_global_batch():
  """Another order of the examples is another loss; another cut of them is not."""

  def reverse(step, batch):
    return jax.tree.map(lambda rows: rows[::-1], batch)

  _, losses = run(make(), change=reverse)
  assert not np.allclose(losses, reference()[1], rtol=1e-5)


def test_noise_levels_are_stratified_over_the_batch():
  programs = make()
  batch = helpers.random_batch(programs.trainable, 8)
  _, metrics = jax.eval_shape(programs.step, programs.state_shapes, batch, _key())
  bands = [name for name in metrics if name.startswith("loss_logsnr")]
  assert len(bands) == 6
  params, counts = programs.init(jax.random.key(0)).params, []
  for seed in range(20):
    found = programs.evaluate(params, place(programs, batch), jax.random.key(seed))
    counts.append([float(found[name][1]) for name in bands])
  counts = np.array(counts)
  assert (counts.sum(1) == 8).all()
  # Eight equal strata: the number below log SNR 0 is 4, never 3 or 5.
  np.testing.assert_allclose(counts[:, :3].sum(1), 4, atol=1e-6)


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))


class _Line:
  """A trainable with one parameter: loss = (w - mean(video))^2, maybe NaN."""

  def init(self, key):
    return {"w": jnp.zeros(()) + 2.0}

  def loss(self, params, batch, key, train):
    value = jnp.mean(jnp.square(params["w"] - batch["target"]))
    return value, {"loss": jnp.stack([value, jnp.ones(())])}

  def batch_spec(self, batch_size):
    return {"target": jax.ShapeDtypeStruct((batch_size,), jnp.float32)}


def line(**sections):
  return make(system=_Line(), **sections)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
  programs = line(train={"ema": (0.5,)})
  state = programs.init(jax.random.key(0))
  good = {"target": np.zeros(8, np.float32)}
  bad = {"target": np.full(8, np.nan, np.float32)}
  state, _ = programs.step(state, good, jax.random.key(1))
  before = jax.device_get(state)
  for expected in (1, 2):
    state, metrics = programs.step(state, bad, jax.random.key(1))
    assert int(state.bad_in_row) == expected
    assert metrics["loss"].tolist() == [0.0, 0.0]
  after = jax.device_get(state)
  assert int(after.step) == int(before.step) + 2
  for name in ("params", "ema", "opt_state"):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(before, name), getattr(after, name)
    )
  state, _ = programs.step(state, good, jax.random.key(1))
  assert (int(state.bad_in_row), int(state.bad_total)) == (0, 2)


def test_averages_follow_their_rate_after_a_warm_up():
  programs = line(train={"ema": (0.9, 0.5)}, optimizer={"warmup_steps": 0})
  state = programs.init(jax.random.key(0))
  assert set(state.ema) == {"0.9", "0.5"}
  expected = {"0.9": 2.0, "0.5": 2.0}
  for step in range(12):
    state, _ = programs.step(
      state, {"target": np.zeros(8, np.float32)}, jax.random.key(1)
    )
    for name in expected:
      rate = min(float(name), (1 + step) / (10 + step))
      expected[name] = expected[name] * rate + float(state.params["w"]) * (1 - rate)
  for name, value in expected.items():
    np.testing.assert_allclose(state.ema[name]["w"], value, rtol=1e-5)


def test_learning_rate_warms_up_and_decays():
  base = helpers.load_config()["optimizer"]
  rate = optimizer.learning_rate(
    {**base, "learning_rate": 1.0, "warmup_steps": 4, "decay": "linear"}, 12
  )
  np.testing.assert_allclose(
    [float(rate(i)) for i in (0, 1, 3, 4, 8, 12)], [0.25, 0.5, 1.0, 1.0, 0.5, 0.0]
  )
  rate = optimizer.learning_rate(
    {**base, "learning_rate": 1.0, "warmup_steps": 0, "decay": "cosine"}, 10
  )
  np.testing.assert_allclose([float(rate(i)) for i in (0, 5, 10)], [1, 0.5, 0])


def test_weight_decay_spares_biases_and_norms():
  base = {**helpers.load_config()["optimizer"], "warmup_steps": 0, "clip_norm": 0.0}
  tx = optimizer.build({**base, "name": "adamw", "weight_decay": 0.1}, 10)
  params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = tx.update(zero, tx.init(params), params)
  after = optax.apply_updates(params, updates)
  assert (after["kernel"] < 1).all() and (after["bias"] == 1).all()


def test_gradients_are_clipped_by_their_global_norm():
  base = {**helpers.load_config()["optimizer"], "warmup_steps": 0, "eps": 1.0}
  tx = optimizer.build({**base, "learning_rate": 1.0, "clip_norm": 1.0}, 10)
  params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  updates, _ = tx.update(
    {"a": jnp.array([300.0]), "b": jnp.array([400.0])}, tx.init(params), params
  )
  # Adam's first step is g / (|g| + eps), here with eps 1.
  np.testing.assert_allclose(
    [updates["a"][0], updates["b"][0]], [-0.375, -0.8 / 1.8], rtol=1e-5
  )


@pytest.mark.parametrize(
  "sections, message",
  [
    ({"mesh": {"data": 3, "fsdp": 1}}, "data=3 x fsdp=1 does not fit 8 devices"),
    ({"mesh": {"data": -1, "fsdp": -1}}, "only one"),
    ({"mesh": {"data": -1, "fsdp": 0}}, "^`mesh.fsdp=0`: expected >= 1, or -1 for"),
    ({"mesh": {"data": 0}}, "^`mesh.data=0`: expected >= 1"),
    ({"train": {"batch_size": 12}}, "12 is not divisible by 8 devices"),
    ({"train": {"batch_size": 0}}, "^`train.batch_size=0`: expected >= 1"),
    ({"train": {"accumulate": 0}}, "^`train.accumulate=0`: expected >= 1"),
    ({"optimizer": {"name": "adma"}}, "Did you mean 'adam'"),
    ({"optimizer": {"weight_decay": 0.1}}, "^`optimizer.weight_decay=0.1`: expected 0"),
    (
      {"optimizer": {"name": "muon", "weight_decay": 0.1}},
      "'muon' has no weight decay",
    ),
    ({"optimizer": {"decay": "cosin"}}, "Did you mean 'cosine'"),
  ],
)
def test_mistakes_are_named(sections, message):
  with pytest.raises(UserError, match=message):
    make(8, **sections)
