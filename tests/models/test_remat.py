"""What a rematerialised block keeps for the backward pass."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from tests import helpers
from vdm_jax.errors import UserError
from vdm_jax.models import layers, rvd_blocks, unet
from vdm_jax.preflight import flops

X = (2, 3, 8, 8, 16)
BLOCKS = {
  "resblock": (
    lambda kind: kind(24, layers.PER_FRAME),
    unet.ResBlock,
    [(2, 3, 8, 8, 24)],
  ),
  "rvd": (
    lambda kind: kind(24),
    rvd_blocks.ResnetBlock,
    [(2, 3, 8, 8, 24)] * 2,
  ),
  "convnext": (lambda kind: kind(24), rvd_blocks.ConvNextBlock, [(2, 3, 8, 8, 48)]),
}


def loss_of(name, policy):
  build, kind, _ = BLOCKS[name]
  block = build(unet.remat(kind, policy))
  x = jnp.asarray(np.random.default_rng(0).standard_normal(X), jnp.float32)
  emb = jnp.ones((2, 3, 12))
  params = helpers.lively(build(kind).init(jax.random.key(0), x, emb))

  def loss(params, x):
    return jnp.sum(jnp.square(block.apply(params, x, emb)))

  return loss, (params, x)


def kept(name, policy, capsys):
  """Shapes of what is kept for the backward pass and is no argument of the block."""
  loss, args = loss_of(name, policy)
  print_saved_residuals(loss, *args)
  lines = capsys.readouterr().out.splitlines()
  made = [line for line in lines if "argument" not in line and "constant" not in line]
  shapes = [re.match(r"\w+\[([\d,]*)\]", line)[1] for line in made]
  return [tuple(int(n) for n in shape.split(",") if n) for shape in shapes]


@pytest.mark.parametrize("name", BLOCKS)
def test_convolutions_are_kept_and_nothing_else(name, capsys):
  output = kept(name, "block", capsys)
  assert output == [(2, 3, 8, 8, 24)]  # Of the square in the loss.
  found = kept(name, "convolutions", capsys)
  assert sorted(found) == sorted(output + BLOCKS[name][2])
  assert len(kept(name, "none", capsys)) > 2 * len(found)


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_made_again_changes_no_gradient(name):
  found = {}
  for policy in unet.REMAT:
    loss, args = loss_of(name, policy)
    found[policy] = jax.jit(jax.grad(loss, (0, 1)))(*args)
  for policy in ("block", "convolutions"):
    for a, b in zip(
      jax.tree.leaves(found[policy]), jax.tree.leaves(found["none"]), strict=True
    ):
      np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


def test_convolutions_are_not_made_again():
  """'block' makes both convolutions of RVD's block again, 'convolutions' neither."""
  work = {}
  for policy in unet.REMAT:
    loss, args = loss_of("rvd", policy)
    work[policy] = flops.count(jax.grad(loss, (0, 1)), *args)
  one = 2 * 6 * 8 * 8 * 9 * 24 * np.array([16, 24])
  assert work["block"] - work["convolutions"] == one.sum()
  assert work["convolutions"] - work["none"] < 0.02 * one.sum()  # Of the embedding.


def test_the_policy_of_older_runs_is_still_read():
  assert kept_by("dots") == kept_by("convolutions")
  with pytest.raises(UserError, match="config.model.remat: expected one of"):
    unet.remat(unet.ResBlock, "dot")


def kept_by(policy):
  loss, args = loss_of("resblock", policy)
  return flops.count(jax.grad(loss), *args)
