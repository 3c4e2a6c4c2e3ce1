"""The VDM network: invariances that its structure promises, and its size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import frames as frames_lib
from vdm_jax import systems
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import attention, vdm

SETTINGS = vdm.VdmSettings(
  channels=8,
  channel_mults=(1, 2),
  blocks=1,
  attention_resolutions=(8, 4),
  head_dim=8,
  embedding_dim=16,
  mlp_layers=2,
  num_labels=5,
  token_dim=6,
  out_channels=3,
)
SHAPE = (2, 6, 8, 8, 3)


@functools.cache
def lively_params():
  network = vdm.VdmUNet(SETTINGS)
  z, level, frames, cond = inputs()
  params = jax.jit(network.init)(jax.random.key(0), z, level, frames, cond)["params"]
  return helpers.lively(params)


def inputs(seed=0, shape=SHAPE):
  rng = np.random.default_rng(seed)
  b, t = shape[:2]
  z = rng.standard_normal(shape).astype(np.float32)
  level = Level(jnp.zeros(b), jnp.linspace(100.0, 800.0, b))
  cond = {
    "label": np.arange(b)[:, None] % 5,
    "tokens": rng.standard_normal((b, 1, 4, 6)).astype(np.float32),
    "token_mask": np.ones((b, 1, 4), bool),
  }
  return z, level, frames_lib.clip(b, t), cond


@jax.jit
def apply(params, z, level, frames, cond):
  return vdm.VdmUNet(SETTINGS).apply({"params": params}, z, level, frames, cond)


def close(a, b, tolerance=2e-5):
  np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def test_a_fresh_network_predicts_exactly_zero_in_float32():
  network = vdm.VdmUNet(SETTINGS)
  z, level, frames, cond = inputs()
  params = network.init(jax.random.key(0), z, level, frames, cond)
  out = network.apply(params, z, level, frames, cond)
  assert out.shape == SHAPE and out.dtype == jnp.float32
  assert not np.any(out)


def test_every_parameter_matters():
  """No dead weights: each array has a gradient, for every kind of input."""
  z, level, frames, cond = inputs()
  weight = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
  grads = jax.grad(lambda p: jnp.sum(weight * apply(p, z, level, frames, cond)))(
    lively_params()
  )
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(grad).max() > 1e-6, jax.tree_util.keystr(path)


def test_independent_images_equal_single_frame_clips():
  z, level, frames, cond = inputs()
  b, t = SHAPE[:2]
  # Each frame a group; all groups carry the clip's signals.
  cond = jax.tree.map(lambda a: np.repeat(a, t, axis=1), cond)
  separate = frames.replace(group=frames.index)
  together = apply(lively_params(), z, level, separate, cond)
  single = apply(
    lively_params(),
    z.reshape(b * t, 1, *SHAPE[2:]),
    jax.tree.map(lambda a: jnp.repeat(a, t), level),
    frames_lib.clip(b * t, 1),
    jax.tree.map(lambda a: a.reshape(b * t, 1, *a.shape[2:]), cond),
  )
  close(together.reshape(single.shape), single)


def test_groups_do_not_influence_each_other_at_all():
  z, level, frames, cond = inputs()
  frames = frames.replace(group=jnp.array([[0, 0, 0, 0, 1, 2]] * 2))
  before = apply(lively_params(), z, level, frames, cond)
  changed = np.array(z)
  changed[:, 5] += 1.0
  after = apply(lively_params(), changed, level, frames, cond)
  np.testing.assert_array_equal(before[:, :5], after[:, :5])
  assert np.abs(before[:, 5] - after[:, 5]).max() > 1e-2
  changed = np.array(z)
  changed[:, 0] += 1.0
  after = apply(lively_params(), changed, level, frames, cond)
  np.testing.assert_array_equal(before[:, 4:], after[:, 4:])
  # Within the group it does matter: the attention over time is alive.
  assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-2


def test_permuting_frames_with_their_indices_permutes_the_output():
  z, level, frames, cond = inputs()
  order = np.array([3, 0, 5, 1, 4, 2])
  moved = jax.tree.map(lambda a: a[:, order], frames)
  straight = apply(lively_params(), z, level, frames, cond)
  permuted = apply(lively_params(), z[:, order], level, moved, cond)
  close(permuted, straight[:, order])
  # Without their indices it is another video.
  wrong = apply(lively_params(), z[:, order], level, frames, cond)
  assert np.abs(wrong - straight[:, order]).max() > 1e-2


def test_only_differences_of_indices_count():
  z, level, frames, cond = inputs()
  shifted = frames.replace(index=frames.index + 1000)
  before = apply(lively_params(), z, level, frames, cond)
  np.testing.assert_array_equal(before, apply(lively_params(), z, level, shifted, cond))
  stretched = frames.replace(index=frames.index * 2)
  other = apply(lively_params(), z, level, stretched, cond)
  assert np.abs(before - other).max() > 1e-2


def test_padding_changes_nothing():
  z, level, frames, cond = inputs()
  padded = frames.replace(latent=jnp.array([[1, 1, 1, 1, 0, 0]] * 2, bool))
  short = jax.tree.map(lambda a: a[:, :4], frames)
  out = apply(lively_params(), z, level, padded, cond)[:, :4]
  close(out, apply(lively_params(), z[:, :4], level, short, cond))
  changed = np.array(z)
  changed[:, 4:] = 7.0
  again = apply(lively_params(), changed, level, padded, cond)[:, :4]
  np.testing.assert_array_equal(out, again)


def test_a_hidden_signal_is_the_same_as_none_and_an_open_one_is_not():
  z, level, frames, cond = inputs()
  hidden = {
    **cond,
    "label": np.full_like(cond["label"], -1),
    "token_mask": np.zeros_like(cond["token_mask"]),
  }
  none = apply(lively_params(), z, level, frames, {})
  np.testing.assert_array_equal(apply(lively_params(), z, level, frames, hidden), none)
  for name in ("label", "token_mask"):
    one = {**hidden, name: cond[name]}
    assert np.abs(apply(lively_params(), z, level, frames, one) - none).max() > 1e-2
  # Tokens behind the mask are never read.
  garbage = {**hidden, "tokens": cond["tokens"] + 100.0}
  np.testing.assert_array_equal(apply(lively_params(), z, level, frames, garbage), none)


def test_each_group_has_its_own_label():
  z, level, frames, cond = inputs()
  frames = frames.replace(group=jnp.array([[0, 0, 0, 0, 1, 1]] * 2))
  labels = np.array([[0, 1], [2, 3]])
  before = apply(lively_params(), z, level, frames, {"label": labels})
  other = apply(lively_params(), z, level, frames, {"label": labels + [[0, 1]]})
  np.testing.assert_array_equal(before[:, :4], other[:, :4])
  assert np.abs(before[:, 4:] - other[:, 4:]).max() > 1e-2


def test_levels_may_differ_by_frame():
  z, level, frames, cond = inputs()
  wide = jax.tree.map(lambda a: jnp.repeat(a[:, None], SHAPE[1], axis=1), level)
  close(
    apply(lively_params(), z, wide, frames, cond),
    apply(lively_params(), z, level, frames, cond),
  )


@pytest.mark.parametrize(
  "policy",
  [
    pytest.param("block", marks=pytest.mark.integration),
    pytest.param("convolutions", marks=pytest.mark.integration),
    pytest.param("dots", marks=pytest.mark.integration),
  ],
)
def test_rematerialisation_changes_neither_parameters_nor_gradients(policy):
  z, level, frames, cond = inputs()
  remat = vdm.VdmUNet(
    vdm.VdmSettings(**{**SETTINGS.__dict__, "remat": policy, "dropout": 0.1})
  )
  plain = vdm.VdmUNet(vdm.VdmSettings(**{**SETTINGS.__dict__, "dropout": 0.1}))

  def gradient(network):
    def loss(params):
      out = network.apply(
        {"params": params}, z, level, frames, cond,
        jax.random.split(jax.random.key(1), len(z)),
      )  # fmt: skip
      return jnp.sum(jnp.square(out - z))

    return jax.jit(jax.grad(loss))(lively_params())

  for a, b in zip(
    jax.tree.leaves(gradient(remat)), jax.tree.leaves(gradient(plain)), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
  network = vdm.VdmUNet(vdm.VdmSettings(**{**SETTINGS.__dict__, "dtype": jnp.bfloat16}))
  z, level, frames, cond = inputs()
  fresh = network.init(jax.random.key(0), z, level, frames, cond)
  assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {np.dtype("float32")}
  half = network.apply({"params": lively_params()}, z, level, frames, cond)
  full = apply(lively_params(), z, level, frames, cond)
  assert half.dtype == jnp.float32
  error = np.sqrt(np.mean((half - full) ** 2)) / np.std(full)
  assert 1e-5 < error < 0.1


def test_logits_of_a_pooled_caption_are_not_rounded():
  rng = np.random.default_rng(0)
  tokens, mask = rng.standard_normal((64, 16, 32)), np.ones((64, 16), bool)
  full, half = (
    attention.AttentionPool(features=64, heads=2, dtype=dtype)
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  params = full.init(jax.random.key(0), tokens, mask)
  params["params"]["query"] *= 60.0  # Logits of a trained query: one token stands out.
  wanted, found = (net.apply(params, tokens, mask) for net in (full, half))
  error = np.sqrt(np.mean((found - wanted) ** 2)) / np.std(wanted)
  assert error < 0.019  # 0.023 with rounded ones.


def test_convolutions_over_time_join_neighbours_and_are_refused_with_images():
  changed = {"conv_time": True, "attention_resolutions": ()}
  network = vdm.VdmUNet(vdm.VdmSettings(**{**SETTINGS.__dict__, **changed}))
  z, level, frames, cond = inputs()
  params = jax.jit(network.init)(jax.random.key(0), z, level, frames, cond)["params"]
  params = helpers.lively(params)

  @jax.jit
  def answer(z):
    return network.apply({"params": params}, z, level, frames, cond)

  other = z.copy()
  other[:, 2] += 1
  gap = np.abs(answer(z) - answer(other)).max((0, 2, 3, 4))
  assert (gap > 1e-3).all()  # Six frames, more than six convolutions.
  config = helpers.load_config(model={"conv_time": True})  # One image beside the clip.
  with pytest.raises(
    UserError, match="config.model.conv_time: .* 1 independent images"
  ):
    systems.build(config)


@pytest.mark.parametrize(
  "change, size, message",
  [
    ({}, (9, 8), "9x8 is not divisible by the U-Net's stride 2"),
    ({"attention_resolutions": (16,)}, (8, 8), "16 never occurs.*\\[8, 4\\]"),
    ({"head_dim": 7}, (8, 8), "head_dim: 7 does not divide the 8"),
  ],
)
def test_impossible_settings_are_named(change, size, message):
  with pytest.raises(UserError, match=message):
    vdm.VdmSettings(**{**SETTINGS.__dict__, **change}).check(*size)


def test_unknown_options_are_named():
  with pytest.raises(UserError, match="config.model.attention"):
    attention.attend(*np.zeros((3, 1, 2, 1, 8)), implementation="flash9")
  network = vdm.VdmUNet(vdm.VdmSettings(**{**SETTINGS.__dict__, "remat": "all"}))
  with pytest.raises(UserError, match="config.model.remat"):
    network.init(jax.random.key(0), *inputs())


def test_frames_need_not_start_alike():
  """Windows of one batch may hold different indices and roles."""
  z, level, frames, cond = inputs()
  mixed = Frames(
    index=jnp.stack([jnp.arange(6), jnp.array([0, 9, 3, 4, 7, 1])]),
    observed=frames.observed,
    latent=frames.latent,
    group=jnp.stack([jnp.zeros(6, int), jnp.array([0, 0, 0, 1, 1, 1])]),
  )
  both = apply(lively_params(), z, level, mixed, cond)
  for row in range(2):
    alone = apply(
      lively_params(),
      *jax.tree.map(lambda a, row=row: a[row : row + 1], (z, level, mixed, cond)),
    )
    close(both[row : row + 1], alone)
