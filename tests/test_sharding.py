"""The mesh, and how arrays are sharded over it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tests import helpers
from vdm_jax import sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.training import program

SHAPES = {
  "backbone": {
    "kernel": jax.ShapeDtypeStruct((3, 3, 128, 256), jnp.float32),
    "odd": jax.ShapeDtypeStruct((3, 3, 127, 255), jnp.float32),
    "tall": jax.ShapeDtypeStruct((512, 256), jnp.float32),
    "bias": jax.ShapeDtypeStruct((256,), jnp.float32),
  },
  "step": jax.ShapeDtypeStruct((), jnp.int32),
}


def specs(*rules, data=1, fsdp=8):
  found = sharding.state(sharding.make_mesh(data, fsdp), SHAPES, rules)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): tuple(place.spec)
    for path, place in jax.tree_util.tree_leaves_with_path(found)
  }


def test_large_arrays_are_split_along_their_longest_axis():
  assert specs() == {
    "backbone/bias": (None,),
    "backbone/kernel": (None, None, None, "fsdp"),
    "backbone/odd": (None, None, None, None),
    "backbone/tall": ("fsdp", None),
    "step": (),
  }
  assert all(set(spec) <= {None} for spec in specs(data=8, fsdp=1).values())


def test_the_first_rule_that_is_found_decides():
  found = specs(("kernel$", -2), ("bias", 0), ("backbone/(kernel|tall)", "whole"))
  assert found == {
    **specs(),
    "backbone/bias": ("fsdp",),
    "backbone/kernel": (None, None, "fsdp", None),
    "backbone/tall": (None, None),
  }


@pytest.mark.parametrize(
  "rule, message",
  [
    ("kernel", "expected pairs of a regular expression .* found 'kernel'"),
    (("(", "whole"), "found .*unterminated"),
    (("kernel", "shortest"), "found .*shortest"),
    (("kernel", True), "found .*True"),
    (("kernel", 0), r"axis 0 of 'backbone/kernel' .* fsdp=8; its shape is \[3, 3, 128"),
    ((".*", 0), "cannot be split"),
    (("bias", 1), "axis 1 of 'backbone/bias'"),
  ],
)
def test_a_bad_rule_is_one_error(rule, message):
  with pytest.raises(UserError, match=message) as caught:
    specs(rule)
  assert str(caught.value).startswith("config.mesh.rules")


def make(rules, fsdp=4):
  config = helpers.load_config(mesh={"data": -1, "fsdp": fsdp, "rules": rules})
  return program.Program(systems.build(config), config)


def test_parameters_averages_and_moments_follow_one_rule():
  place = make([["head/kernel", -2]]).state_sharding
  split = [
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, leaf in jax.tree_util.tree_leaves_with_path(place)
    if leaf.spec == PartitionSpec(None, None, "fsdp", None)
  ]
  found = {name.split("/")[0] for name in split if name.endswith("head/kernel")}
  assert found == {"params", "ema", "opt_state"}
  assert sum(name.endswith("head/kernel") for name in split) == 4


@pytest.mark.parametrize("fsdp", [1, 4])
def test_a_rule_for_nothing_is_a_mistake(fsdp):
  with pytest.raises(UserError, match="rules: 'haed' is found in no path of the state"):
    make([["haed", "whole"]], fsdp)


class _Chip:
  """A chip of a v5e slice of 2 x 2."""

  platform, device_kind, process_index, slice_index = "tpu", "TPU v5 lite", 0, 0
  core_on_chip = 0

  def __init__(self, number):
    self.id, self.coords = number, (number % 2, number // 2, 0)


def test_neighbours_on_the_mesh_are_neighbours_in_the_slice():
  chips = [_Chip(number) for number in range(4)]
  ring = sharding._grid(chips, (1, 4))[0]
  assert [chip.id for chip in ring] == [0, 1, 3, 2]
  for a, b in zip(ring, np.roll(ring, 1), strict=True):
    assert sum(abs(x - y) for x, y in zip(a.coords, b.coords, strict=True)) == 1
  # A slice with a hole in it has no such order: that of the devices.
  part = [chips[number] for number in (0, 3, 1)]
  assert [chip.id for chip in sharding._grid(part, (1, 3))[0]] == [0, 3, 1]
