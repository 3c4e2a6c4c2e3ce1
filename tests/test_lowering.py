"""Every config's training step lowers for TPU and GPU on a host that has neither."""

import pathlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from tests import helpers
from vdm_jax.models import conv
from vdm_jax.preflight import flops, lowerable

pytestmark = pytest.mark.integration

ACCELERATORS = ("tpu", "cuda")
NAMES = sorted(
  path.stem
  for path in (pathlib.Path(__file__).resolve().parents[1] / "configs").glob("*.py")
  if not path.stem.startswith(("common", "__"))
)
# Networks that take a few seconds; the papers' take up to half a minute each.
QUICK = {
  "debug",
  "fdm_digits",
  "position_regressor_maze",
  "ramvid_digits",
  "rvd_digits",
  "vdm_digits",
  "vdm_digits_cascade",
}


def by_platform(jaxpr) -> Iterator[tuple]:
  """Yields the platforms of each choice that is made when a program is lowered."""
  for equation in jaxpr.eqns:
    if equation.params.get("branches_platforms"):
      yield equation.params["branches_platforms"]
    for value in equation.params.values():
      for inner in flops.inside(value):
        yield from by_platform(inner)


@pytest.mark.parametrize(
  "name",
  [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NAMES],
)
def test_a_step_lowers_for_accelerators(name):
  config = helpers.load_config(name)
  parts = config["train"]["batch_size"] // config["train"]["accumulate"]
  devices = jax.devices() if parts % len(jax.devices()) == 0 else jax.devices()[:1]
  built = lowerable.build(config, "train", devices)
  traced = built.call.trace(*built.args)
  # Networks that choose by platform do: tracing went through their branches.
  choices = list(by_platform(traced.jaxpr.jaxpr))
  assert any(("cpu",) in choice for choice in choices)
  for platform in ACCELERATORS:
    lowered = traced.lower(lowering_platforms=(platform,))
    assert "convolution" in lowered.as_text()


def test_the_branch_is_that_of_the_platform():
  """Gradients of a convolution: one formulation for CPU, another for accelerators."""

  def loss(x, kernel):
    return jnp.sum(jnp.sin(conv.conv2d(x, kernel, padding="SAME")))

  x = jax.ShapeDtypeStruct((2, 16, 16, 8), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 8, 8), jnp.float32)
  traced = jax.jit(jax.grad(loss, (0, 1))).trace(x, kernel)
  text = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ("cpu", *ACCELERATORS)
  }
  assert text["tpu"] == text["cuda"]
  assert text["tpu"] != text["cpu"]
