"""The FDM network: what its structure promises. Its values are the golden cases'."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import frames as frames_lib
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import fdm, fdm_attention

# Two channels a group: with one, a norm would cancel the biases before it. One
# attention site, in the middle, is quick to compile.
SETTINGS = fdm.FdmSettings(
  channels=64, channel_mults=(1,), blocks=1, attention_resolutions=(), num_heads=2
)
SHAPE = (2, 6, 8, 8, 3)


def inputs(seed=0):
  """z, video, level and frames: of each window two observed and three latent."""
  rng = np.random.default_rng(seed)
  z, video = rng.standard_normal((2, *SHAPE)).astype(np.float32)
  level = Level(jnp.zeros(2), jnp.array([100.0, 800.0]))
  index = np.array([[0, 3, 7, 8, 40, 2], [9, 1, 2, 3, 4, 5]], np.int32)
  observed = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0]], bool)
  latent = np.array([[0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 1, 0]], bool)
  return z, video, level, Frames(index, observed, latent, np.zeros_like(index))


def run(settings, params, z, video, level, frames, dropout=None):
  network = fdm.FdmUNet(settings)
  encoded = network.apply({"params": params}, video, frames, {}, method="encode")
  return network.apply(
    {"params": params}, z, level, frames, encoded.context, dropout, method="denoise"
  )


apply = jax.jit(run, static_argnums=0)


@functools.cache
def fresh_params():
  z, _, level, frames = inputs()
  network = fdm.FdmUNet(SETTINGS)
  return jax.jit(network.init)(jax.random.key(0), z, level, frames, {})["params"]


@functools.cache
def lively_params():
  return helpers.lively(fresh_params(), scale=0.1)


def close(a, b, tolerance=1e-4):
  np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def differs(a, b):
  assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-2


def test_a_fresh_network_predicts_exactly_zero_in_float32():
  out = apply(SETTINGS, fresh_params(), *inputs())
  assert out.shape == SHAPE and out.dtype == jnp.float32
  assert not np.any(out)


def test_every_parameter_matters():
  weight = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
  grads = jax.jit(jax.grad(lambda p: jnp.sum(weight * run(SETTINGS, p, *inputs()))))(
    lively_params()
  )
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    # It adds the same to all scores of a query: softmax takes no notice.
    if not name.endswith("relative_key/out/bias"):
      assert np.abs(grad).max() > 1e-6, name


def test_observed_frames_enter_clean_and_nothing_else_does():
  z, video, level, frames = inputs()
  before = apply(SETTINGS, lively_params(), z, video, level, frames)
  observed = frames.observed[..., None, None, None]
  other_z = np.where(observed, np.nan, z)
  other_video = np.where(observed, video, np.nan)
  after = apply(SETTINGS, lively_params(), other_z, other_video, level, frames)
  np.testing.assert_array_equal(before, after)
  latent = frames.latent & (np.arange(SHAPE[0]) == 0)[:, None]
  shifted = np.where(observed, video + 1.0, video)
  after = apply(SETTINGS, lively_params(), z, shifted, level, frames)
  differs(before[latent], after[latent])
  # The same pixels, clean or noisy: it is told which.
  noisy = np.where(observed, video, z)
  unobserved = frames.replace(
    observed=np.zeros_like(frames.observed), latent=~frames.padding
  )
  differs(before, apply(SETTINGS, lively_params(), noisy, video, level, unobserved))


def test_permuting_frames_permutes_the_output():
  z, video, level, frames = inputs()
  order = np.array([3, 0, 5, 1, 4, 2])
  straight = apply(SETTINGS, lively_params(), z, video, level, frames)
  moved = jax.tree.map(lambda a: a[:, order], (z, video))
  permuted = apply(
    SETTINGS,
    lively_params(),
    *moved,
    level,
    jax.tree.map(lambda a: a[:, order], frames),
  )
  close(permuted, straight[:, order])


def test_only_differences_of_indices_count():
  z, video, level, frames = inputs()
  before = apply(SETTINGS, lively_params(), z, video, level, frames)
  shifted = frames.replace(index=frames.index + 1000)
  after = apply(SETTINGS, lively_params(), z, video, level, shifted)
  np.testing.assert_array_equal(before, after)
  for index in (2 * frames.index, -frames.index):  # Distance and direction.
    other = frames.replace(index=index)
    differs(before, apply(SETTINGS, lively_params(), z, video, level, other))


def test_padding_reaches_real_frames_through_the_norm_alone():
  z, video, level, frames = inputs()
  changed = np.array(z)
  changed[:, 5] += 1.0
  moved = frames.replace(index=np.where(frames.padding, 77, frames.index))
  both = [(z, frames), (changed, moved)]
  first, second = (
    apply(SETTINGS, lively_params(), a, video, level, f)[:, :5] for a, f in both
  )
  differs(first, second)
  # Padding's place in time never reaches them: that is attention's alone.
  third = apply(SETTINGS, lively_params(), z, video, level, moved)[:, :5]
  np.testing.assert_array_equal(first, third)

  settings = dataclasses.replace(SETTINGS, padding_in_norm=False)
  first, second = (
    apply(settings, lively_params(), a, video, level, f)[:, :5] for a, f in both
  )
  np.testing.assert_array_equal(first, second)
  short = jax.tree.map(lambda a: a[:, :5], (z, video))
  alone = apply(
    settings, lively_params(), *short, level, jax.tree.map(lambda a: a[:, :5], frames)
  )
  close(first, alone)


@pytest.mark.parametrize("padding_in_norm", [True, False])
def test_gradients_stay_finite_far_apart_and_in_a_window_of_padding(padding_in_norm):
  z, video, level, frames = inputs()
  settings = dataclasses.replace(SETTINGS, padding_in_norm=padding_in_norm)
  frames = frames.replace(index=frames.index * 100_000)
  nothing = np.array([[1], [0]], bool)
  frames = frames.replace(
    observed=frames.observed & nothing, latent=frames.latent & nothing
  )

  def loss(params):
    return jnp.mean(jnp.square(run(settings, params, z, video, level, frames)))

  for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(lively_params())):
    assert np.all(np.isfinite(leaf))


def test_relative_positions_are_not_copied_for_every_pixel():
  b, t, size, channels = 1, 8, 16, 64
  x = jax.ShapeDtypeStruct((b, t, size, size, channels), jnp.float32)
  emb = jax.ShapeDtypeStruct((b, 1, 4), jnp.float32)
  layer = fdm_attention.FrameAttention(head_dim=32)
  frames = frames_lib.clip(b, t)
  key = jax.random.key(0)
  params = jax.eval_shape(lambda x, e: layer.init(key, x, e, frames), x, emb)

  def loss(params, x, emb):
    return jnp.sum(layer.apply(params, x, emb, frames))

  text = jax.make_jaxpr(jax.grad(loss))(params, x, emb)
  most = max(v.aval.size for eqn in text.jaxpr.eqns for v in eqn.outvars)
  assert most < size * size * t * t * channels // 2
  assert most >= size * size * t * channels


def test_rematerialisation_changes_neither_parameters_nor_gradients():
  arguments = inputs()

  def gradient(settings):
    def loss(params):
      keys = jax.random.split(jax.random.key(1), len(arguments[0]))
      out = run(settings, params, *arguments, dropout=keys)
      return jnp.sum(jnp.square(out - arguments[0]))

    return jax.tree.leaves(jax.jit(jax.grad(loss))(lively_params()))

  plain = dataclasses.replace(SETTINGS, dropout=0.1)
  expected = gradient(plain)
  largest = max(np.abs(leaf).max() for leaf in expected)
  for a, b in zip(
    gradient(dataclasses.replace(plain, remat="block")), expected, strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-6 * largest)


def test_bfloat16_computes_in_it_and_keeps_float32_parameters():
  settings = dataclasses.replace(SETTINGS, dtype=jnp.bfloat16)
  z, _, level, frames = inputs()
  fresh = jax.eval_shape(
    fdm.FdmUNet(settings).init, jax.random.key(0), z, level, frames, {}
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {np.dtype("float32")}
  half = apply(settings, lively_params(), *inputs())
  full = apply(SETTINGS, lively_params(), *inputs())
  assert half.dtype == jnp.float32
  error = np.sqrt(np.mean((half - full) ** 2)) / np.std(full)
  assert 1e-5 < error < 0.1


def test_a_learned_variance_doubles_the_channels():
  settings = dataclasses.replace(SETTINGS, learn_variance=True)
  z, _, level, frames = inputs()
  network = fdm.FdmUNet(settings)
  out, _ = jax.eval_shape(
    network.init_with_output, jax.random.key(0), z, level, frames, {}
  )
  assert out.shape == (*SHAPE[:-1], 6)


@pytest.mark.parametrize(
  "change, size, message",
  [
    ({"channel_mults": (1, 2)}, (9, 8), "9x8 is not divisible by the U-Net's stride 2"),
    ({"attention_resolutions": (16,)}, (8, 8), "16 never occurs.*\\[8\\]"),
    ({"attention_resolutions": (8,), "num_heads_upsample": 7}, (8, 8), "7 does not"),
    ({"channels": 48}, (8, 8), "level 0 has 48 channels, expected a multiple of 32"),
    ({"num_heads": 3}, (8, 8), "num_heads: 3 does not divide the 64"),
    ({"num_heads_upsample": 5}, (8, 8), "num_heads_upsample: 5 does not divide"),
  ],
)
def test_impossible_settings_are_named(change, size, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(SETTINGS, **change).check(*size)
