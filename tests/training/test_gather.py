"""Weights gathered once a step: which dtype each has, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from tests.training import test_program
from vdm_jax import sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.preflight import hlo
from vdm_jax.training import gather

# One small config a paper.
CONFIGS = ["debug", "fdm_digits", "ramvid_digits", "rvd_digits"]


@pytest.fixture(autouse=True)
def small_arrays_are_split(monkeypatch):
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 64)


def make(how, *, dtype="float32", accumulate=2, **sections):
  return test_program.make(
    4,
    dtype=dtype,
    mesh={"data": 1, "fsdp": 4, "gather": how},
    train={"accumulate": accumulate},
    **sections,
  )


@pytest.mark.integration
@pytest.mark.parametrize("accumulate", [1, 2])
def test_parameters_are_the_same_to_the_last_bit(accumulate, monkeypatch):
  # Where smaller arrays are split, too, XLA contracts over the devices what is gathered
  # at each use: sums in another order.
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 2048)
  model = {"dropout": 0.1, "remat": "block"}
  programs = {
    how: make(how, accumulate=accumulate, model=model) for how in ("step", "use")
  }
  places = jax.tree.leaves(programs["step"].state_sharding.params)
  assert sum(not place.is_fully_replicated for place in places) > 5
  step, use = (test_program.run(p, steps=3) for p in programs.values())
  jax.tree.map(np.testing.assert_array_equal, step, use)


@pytest.mark.integration
def test_small_arrays_too_are_trained_as_on_devices_that_hold_all():
  step = test_program.run(make("step"))
  test_program.assert_same(step, test_program.reference(), tolerance=2e-4)


@pytest.mark.integration
def test_in_bfloat16_it_computes_what_devices_that_hold_all_compute():
  step = test_program.run(make("step", dtype="bfloat16"))
  whole = test_program.run(
    test_program.make(4, dtype="bfloat16", train={"accumulate": 2})
  )
  np.testing.assert_array_equal(step[1][0], whole[1][0])  # The same forward pass.
  test_program.assert_same(step, whole, tolerance=1e-3)


@pytest.mark.integration
def test_weights_are_gathered_once_whatever_the_number_of_micro_batches():
  def gathers(how, accumulate):
    compiled = make(how, accumulate=accumulate).lower_step().compile()
    return hlo.Module(compiled.as_text()).collectives()["all-gather"]["bytes"]

  assert gathers("step", 2) == pytest.approx(gathers("step", 1), rel=0.05)
  assert gathers("use", 2) > 1.3 * gathers("step", 2)


@pytest.mark.integration
def test_the_state_stays_split():
  programs = make("step", dtype="bfloat16")
  state = programs.init(jax.random.key(0))
  batch = test_program.place(programs, helpers.random_batch(programs.trainable, 8))
  state, _ = programs.step(state, batch, jax.random.key(1))
  assert jax.tree.map(lambda leaf: leaf.sharding, state) == programs.state_sharding


@pytest.mark.integration
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_of_converted_weights_are_those_of_the_weights(name):
  """The rule, in bfloat16: nothing is converted that is used in float32, too."""
  system = systems.build(helpers.load_config(name, dtype="bfloat16"))
  batch = helpers.random_batch(system, 2, length=100)
  batch |= {"example": jnp.arange(2), "stratum": jnp.arange(2) / 2}
  params = helpers.lively(system.init(jax.random.key(0)))

  def loss(params, batch, key):
    return system.loss(params, batch, key, train=True)[0]

  args = batch, jax.random.key(1)
  dtypes = gather.dtypes(loss, params, *args)
  converted = jax.tree.map(lambda leaf, to: jnp.asarray(leaf, to), params, dtypes)
  half = sum(
    leaf.size
    for leaf in jax.tree.leaves(converted)
    if leaf.dtype == jnp.dtype("bfloat16")
  )
  # All of VDM's kernels but the head's; RVD reshapes those of its upsampling first.
  assert half > 0.6 * sum(leaf.size for leaf in jax.tree.leaves(params))
  # XLA may leave out that a gradient is rounded to bfloat16, in the one or the other.
  strict = {"xla_allow_excess_precision": False}
  value = jax.jit(jax.value_and_grad(loss), compiler_options=strict)
  for found, expected in zip(
    jax.tree.leaves(value(converted, *args)),
    jax.tree.leaves(value(params, *args)),
    strict=True,
  ):
    np.testing.assert_array_equal(np.asarray(found, np.float32), expected)


def test_which_parameters_are_converted():
  system = systems.build(helpers.load_config(dtype="bfloat16"))
  batch = helpers.random_batch(system, 2)
  batch |= {"example": jnp.arange(2), "stratum": jnp.arange(2) / 2}
  params = jax.eval_shape(system.init, jax.random.key(0))
  found = gather.dtypes(
    lambda *args: system.loss(*args, train=True), params, batch, jax.random.key(1)
  )
  names = {
    jax.tree_util.keystr(path, simple=True, separator="/"): dtype.name
    for path, dtype in jax.tree_util.tree_leaves_with_path(found)
  }
  for name, dtype in names.items():
    if "conv_" in name or "qkv" in name or "embed" in name:
      assert dtype == "bfloat16", name
    if "norm" in name or "/head/" in name:
      assert dtype == "float32", name


def test_a_second_use_keeps_a_parameter_as_it_is():
  half = jnp.bfloat16

  def loss(p, x):
    def body(total, _):
      return total + jnp.sum(p["loop"].astype(half)), None

    inside = jax.checkpoint(lambda w: jnp.sum(w.astype(half) * x))
    total = jnp.sum(p["once"].astype(half)) + jnp.sum(p["plain"])
    total += jnp.sum(p["twice"].astype(half)) + jnp.sum(p["twice"].astype(half) ** 2)
    total += jnp.sum(p["both"].astype(half)) + jnp.sum(p["both"])
    total += jax.jit(inside)(p["inside"])
    total += jax.lax.scan(body, total * 0, length=3)[0]
    return total, p["returned"]

  names = ["once", "plain", "twice", "both", "inside", "loop", "returned", "unused"]
  params = {name: jnp.ones(4) for name in names}
  found = gather.dtypes(loss, params, jnp.ones(4, half))
  assert {name for name, dtype in found.items() if dtype == half} == {"once", "inside"}


def test_a_mistake_is_named():
  with pytest.raises(UserError, match="mesh.gather 'steps'. Did you mean 'step'"):
    make("steps")


def test_options_are_for_split_weights_on_a_tpu_alone():
  class Device:
    platform = "tpu"

  class Mesh:
    devices = np.array([[Device()]])
    shape = {"data": 1, "fsdp": 8}

  assert "windowed_einsum" in str(sharding.compiler_options(Mesh))
  Mesh.shape = {"data": 8, "fsdp": 1}
  assert sharding.compiler_options(Mesh) is None
  assert sharding.compiler_options(sharding.make_mesh(1, 8)) is None


_PERMUTES = """
import functools, json
import jax, jax.numpy as jnp
from vdm_jax import sharding
from vdm_jax.preflight import measure, topology

jax.config.update("jax_enable_compilation_cache", False)
mesh = sharding.make_mesh(1, 4, topology.devices(topology.parse("v5e:2x2")))
x = jax.ShapeDtypeStruct((32, 32, 32, 512), jnp.bfloat16)
kernel = jax.ShapeDtypeStruct((3, 3, 512, 512), jnp.bfloat16)
rows, split = sharding.batch(mesh), sharding.state(mesh, kernel, [["", 2]])
convolve = lambda x, kernel: jax.lax.conv_general_dilated(
  x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
)
found = {}
ours = functools.partial(sharding.jit, mesh=mesh)
for name, jit in {"jax": jax.jit, "ours": ours}.items():
  step = jit(convolve, in_shardings=(rows, split), out_shardings=rows)
  with measure._trying("O0"):
    text = step.lower(x, kernel).compile().as_text()
  found[name] = [text.count(" collective-permute"), text.count(" all-gather")]
print(json.dumps(found))
"""


@helpers.needs_compiler
@pytest.mark.integration
def test_split_weights_are_gathered_not_sent_round_while_a_tpu_multiplies():
  found = helpers.compile_for_tpu(_PERMUTES)
  assert found["jax"][0] > 0  # What is avoided.
  assert found["ours"][0] == 0 and found["ours"][1] > 0
