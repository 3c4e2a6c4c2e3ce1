"""Shapes in annotations: checked in this suite, and nowhere else."""

import ast
import json
import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jaxtyping import Array, Float

from tests import annotations
from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import Level
from vdm_jax.metrics import frechet
from vdm_jax.models import layers

LEVEL = Level(jnp.zeros(2), jnp.zeros(2))


@pytest.mark.parametrize(
  "call",
  [
    # Broadcasting would hide this one: the noise of one example for both.
    lambda: process.forward(jnp.zeros((2, 3)), jnp.zeros((1, 3)), LEVEL),
    lambda: process.forward(jnp.zeros((2, 3)), jnp.zeros((2, 3), int), LEVEL),
    lambda: layers.sinusoid(jnp.zeros(4, int), 8),
    lambda: frechet.Moments(1, np.zeros(3), np.zeros((3, 4))),
  ],
)
def test_wrong_shapes_and_dtypes_are_found(call):
  with pytest.raises(jaxtyping.TypeCheckError):
    call()
  with annotations.ignored():
    call()
  with pytest.raises(jaxtyping.TypeCheckError):
    call()


def test_a_result_is_checked():
  @jaxtyping.jaxtyped(typechecker=annotations.check)
  def wrong(x: Float[Array, " b"]) -> Float[Array, " b"]:
    return x[None]

  with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
    wrong(jnp.zeros(3))


def test_trees_may_hold_anything():
  assert process.Estimate(0, None).x == 0  # Such as axes for `jax.vmap`.


def test_a_user_pays_nothing():
  code = """
import json, sys
import jax.numpy as jnp
from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import Level
level = Level(jnp.zeros(2), jnp.zeros(2))
z = process.forward(jnp.zeros((2, 3)), jnp.zeros((1, 3)), level)
wrapped = hasattr(process.forward, "__wrapped__")
print(json.dumps([z.shape, wrapped, "beartype" in sys.modules]))
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
  assert json.loads(done.stdout) == [[2, 3], False, False]


@pytest.mark.parametrize("package", annotations.PACKAGES)
def test_public_arrays_have_shapes(package, checkout):
  """No public function takes or gives an array of any shape without saying so."""
  bare = []
  for path in sorted((checkout / package.replace(".", "/")).glob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if not isinstance(node, ast.FunctionDef):
        continue
      if node.name.startswith("_") and node.name != "__call__":
        continue
      hints = [a.annotation for a in (*node.args.args, *node.args.kwonlyargs)]
      for hint in filter(None, [*hints, node.returns]):
        if ast.unparse(hint).removesuffix(" | None") in ("jax.Array", "np.ndarray"):
          bare.append(f"{path.name}: {node.name}: {ast.unparse(hint)}")
  assert not bare
