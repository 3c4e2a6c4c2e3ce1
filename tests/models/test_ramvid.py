"""The RaMViD network and its objective: what their structure promises."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from tests import helpers
from vdm_jax import frames as frames_lib
from vdm_jax import systems
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError
from vdm_jax.models import attention, layers, ramvid

# Two channels a group: with one, a norm would cancel the biases before it.
SETTINGS = ramvid.RamvidSettings(
  channels=64,
  channel_mults=(1,),
  blocks=1,
  attention_resolutions=(),
  num_heads=2,
  num_labels=3,
)
SHAPE = (2, 3, 8, 8, 3)
FRAMES = frames_lib.clip(*SHAPE[:2], observed=[1])
COND = {"label": np.array([[2], [-1]], np.int32)}
LEVEL = Level(jnp.zeros(2), jnp.array([100.0, 800.0]))


def draw(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(settings, params, z, cond, dropout=None):
  return ramvid.RamvidUNet(settings).apply(
    {"params": params}, z, LEVEL, FRAMES, cond, dropout
  )


apply = jax.jit(run, static_argnums=0)


def init(settings, *shape):
  """A fresh network's parameters, as shapes alone, and its output."""
  network = ramvid.RamvidUNet(settings)
  z = jax.ShapeDtypeStruct(shape, jnp.float32)
  frames, cond = frames_lib.clip(*shape[:2]), {"label": np.zeros((shape[0], 1), int)}

  def both(z):
    level = Level(jnp.zeros(shape[0]), jnp.ones(shape[0]))
    return network.init_with_output(jax.random.key(0), z, level, frames, cond)

  out, variables = jax.eval_shape(both, z)
  return variables["params"], out


@functools.cache
def fresh_params():
  network = ramvid.RamvidUNet(SETTINGS)
  return jax.jit(network.init)(jax.random.key(0), draw(*SHAPE), LEVEL, FRAMES, COND)[
    "params"
  ]


@functools.cache
def lively_params():
  return helpers.lively(fresh_params(), scale=0.1)


def test_a_fresh_network_predicts_exactly_zero_in_float32():
  out = apply(SETTINGS, fresh_params(), draw(*SHAPE), COND)
  assert out.shape == SHAPE and out.dtype == jnp.float32
  assert not np.any(out)


def test_every_parameter_matters_and_has_a_finite_gradient():
  weight = draw(*SHAPE, seed=1)

  def loss(params):
    return jnp.sum(weight * run(SETTINGS, params, draw(*SHAPE), COND))

  for path, grad in jax.tree_util.tree_leaves_with_path(
    jax.jit(jax.grad(loss))(lively_params())
  ):
    assert np.isfinite(grad).all()
    assert np.abs(grad).max() > 1e-6, jax.tree_util.keystr(path)


def test_labels_steer_and_no_label_adds_nothing():
  z = draw(*SHAPE)
  before = apply(SETTINGS, lively_params(), z, COND)
  other = apply(SETTINGS, lively_params(), z, {"label": np.array([[1], [-1]])})
  assert np.abs(before[0] - other[0]).max() > 1e-2
  np.testing.assert_array_equal(before[1], other[1])
  unlabelled = dataclasses.replace(SETTINGS, num_labels=0)
  params = {k: v for k, v in lively_params().items() if k != "label"}
  np.testing.assert_allclose(
    apply(unlabelled, params, z, {})[1], before[1], atol=1e-5 * np.abs(before).max()
  )


def test_attention_joins_all_pixels_of_all_frames():
  """Permuting tokens, frames and pixels alike, permutes its output."""
  x = draw(1, 3, 2, 2, 64)
  layer = attention.SpaceAttention(32, layers.PER_VIDEO, groups=32, joint=True)
  params = helpers.lively(layer.init(jax.random.key(0), x))
  order = np.random.default_rng(0).permutation(12)
  shuffled = x.reshape(1, 12, 64)[:, order].reshape(x.shape)
  straight = layer.apply(params, x).reshape(12, 64)
  found = layer.apply(params, shuffled).reshape(12, 64)
  np.testing.assert_allclose(found, straight[order], atol=1e-4)
  assert np.abs(straight - x.reshape(12, 64)).max() > 1e-2


def test_joint_attention_never_holds_the_scores():
  """16 frames of 16x16, as in the published models at 64 pixels: 4096 tokens."""
  x = jax.ShapeDtypeStruct((1, 16, 16, 16, 32), jnp.float32)
  layer = attention.SpaceAttention(32, layers.PER_VIDEO, groups=32, joint=True)
  params = jax.eval_shape(lambda x: layer.init(jax.random.key(0), x), x)

  def largest(jaxpr):
    found = 0
    for eqn in jaxpr.eqns:
      found = max(found, *(v.aval.size for v in eqn.outvars), 0)
      for inner in jaxprs_in_params(eqn.params):
        found = max(found, largest(inner))
    return found

  text = jax.make_jaxpr(jax.grad(lambda p, x: jnp.sum(layer.apply(p, x))))(params, x)
  assert 4096 * 32 <= largest(text.jaxpr) <= (32 << 20) // 4  # Of 64 MiB of scores.


@pytest.mark.parametrize(
  "levels, works, fails",
  [(4, (8, 12, 16, 20), (10,)), (3, (4, 6, 8), (3, 5, 7)), (2, (5, 7, 8), ())],
)
def test_lengths_that_halving_can_restore(levels, works, fails):
  """As measured with the authors' network."""
  assert all(ramvid.takes_length(n, levels) for n in works)
  assert not any(ramvid.takes_length(n, levels) for n in fails)


@pytest.mark.parametrize("length, mults", [(5, (1, 1)), (6, (1, 1, 1)), (7, (1, 1))])
def test_time_is_halved_with_space_and_restored(length, mults):
  plain = ramvid.RamvidSettings(32, mults, blocks=1, attention_resolutions=())
  scaled = dataclasses.replace(plain, scale_time_dim=length)
  params, out = init(scaled, 1, length, 8, 8, 3)
  assert out.shape == (1, length, 8, 8, 3)
  # Nothing of it can be seen in the weights.
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, init(plain, 1, 4, 8, 8, 3)[0]
  )


def test_frames_are_repeated_by_nearest_index():
  x = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1, 1) + 1
  layer = ramvid.Upsample(1, frames=5)
  params = layer.init(jax.random.key(0), x)
  (kernel,) = [a for a in jax.tree.leaves(params) if a.ndim == 5]
  centre = np.zeros(kernel.shape, np.float32)
  centre[1, 1, 1] = 1.0
  params = jax.tree.map(lambda a: centre if a.ndim == 5 else a * 0, params)
  out = layer.apply(params, x)
  assert out.shape == (1, 5, 2, 2, 1)
  np.testing.assert_array_equal(out[0, :, 1, 0, 0], [1, 1, 2, 2, 3])


@pytest.mark.integration
def test_rematerialisation_and_dropout():
  plain = dataclasses.replace(SETTINGS, dropout=0.3)
  z = draw(*SHAPE)

  def gradient(settings, seed):
    def loss(params):
      keys = jax.random.split(jax.random.key(seed), len(z))
      return jnp.sum(jnp.square(run(settings, params, z, COND, keys)))

    return jax.tree.leaves(jax.jit(jax.grad(loss))(lively_params()))

  expected = gradient(plain, 1)
  largest = max(np.abs(leaf).max() for leaf in expected)
  again = gradient(dataclasses.replace(plain, remat="block"), 1)
  for a, b in zip(again, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-6 * largest)
  still = apply(plain, lively_params(), z, COND)
  np.testing.assert_array_equal(still, apply(SETTINGS, lively_params(), z, COND))
  other = gradient(plain, 2)
  assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(other, expected, strict=True))


def test_bfloat16_keeps_float32_parameters_and_output():
  settings = dataclasses.replace(SETTINGS, dtype=jnp.bfloat16)
  params, out = init(settings, *SHAPE)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
  assert out.dtype == jnp.float32
  half = apply(settings, lively_params(), draw(*SHAPE), COND)
  full = apply(SETTINGS, lively_params(), draw(*SHAPE), COND)
  error = np.sqrt(np.mean((half - full) ** 2)) / np.std(full)
  assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
  "change, clip, message",
  [
    ({}, (4, 9, 8), "9x8 is not divisible by the U-Net's stride 2"),
    ({"attention_resolutions": (16,)}, (4, 8, 8), "16 never occurs.*\\[8, 4\\]"),
    ({"channels": 48}, (4, 8, 8), "level 0 has 48 channels, expected a multiple of 32"),
    ({"num_heads": 3}, (4, 8, 8), "num_heads: 3 does not divide the 64"),
    ({"num_heads_upsample": 5}, (4, 8, 8), "num_heads_upsample: 5 does not divide"),
    (
      {"channel_mults": (1, 1, 1, 1), "scale_time_dim": 10},
      (10, 8, 8),
      "10 frames cannot be halved and restored over 4 levels; lengths that can be: "
      "4, 8, 12, 16;",
    ),
    ({"scale_time_dim": 6}, (5, 8, 8), "expected 6 frames .*scale_time_dim=6.*found 5"),
  ],
)
def test_impossible_sizes_are_named(change, clip, message):
  settings = ramvid.RamvidSettings(64, (1, 1), blocks=1, attention_resolutions=())
  with pytest.raises(UserError, match=message):
    dataclasses.replace(settings, **change).check(*clip)


def test_lengths_that_an_error_names_do_work():
  settings = ramvid.RamvidSettings(
    64, (1, 1, 1), attention_resolutions=(), scale_time_dim=5
  )
  with pytest.raises(UserError) as error:
    settings.check_length(5)
  named = str(error.value).split("can be: ")[1].split(";")[0]
  assert named
  for length in map(int, named.split(", ")):
    _, out = init(
      dataclasses.replace(settings, blocks=1, scale_time_dim=length),
      *(1, length, 4, 4, 3),
    )
    assert out.shape[1] == length


def small_system(model=(), **diffusion):
  config = helpers.load_config(
    "ramvid_digits",
    data={"frame_shape": (4, 4, 1)},
    task=dict(name="random_mask", num_frames=5, max_observed=3),
    model=dict(
      channels=32, channel_mults=(1,), blocks=1, attention_resolutions=(), **dict(model)
    ),
    diffusion={"predict": "eps", "loss_space": "eps", "num_steps": 50, **diffusion},
  )
  return systems.build(config)


OBSERVED = np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 1]], bool)


def scored(system, params, seed=1):
  frames = frames_lib.clip(2, 5).replace(observed=OBSERVED, latent=~OBSERVED)
  video, eps = draw(2, 2, 5, 4, 4, 1, seed=seed)
  noise = system.noise(jnp.array([0.3, 0.8]), eps)
  score = jax.jit(system.score)
  found = score(params, np.tanh(video), frames, {}, noise)
  return found, np.tanh(video), noise


def test_given_frames_stand_clean_in_the_input_and_do_not_count():
  system = small_system()
  params = jax.jit(system.init)(jax.random.key(0))
  found, video, noise = scored(system, params)
  np.testing.assert_array_equal(found.z[OBSERVED], video[OBSERVED])
  assert np.abs(found.z - video)[~OBSERVED].min() > 0
  # A fresh network says zero: the error is the noise, each example by its own count.
  square = np.square(noise.eps).mean((2, 3, 4))
  each = (square * ~OBSERVED).sum(1) / (~OBSERVED).sum(1)
  np.testing.assert_allclose(found.per_example, each, rtol=1e-5)
  np.testing.assert_allclose(found.loss, each.mean(), rtol=1e-5)


@pytest.mark.parametrize("predict", ["eps", "x"])
def test_counting_given_frames_too_has_the_authors_target(predict):
  system = small_system(
    predict=predict, loss_space=predict, where="all", normalise="all"
  )
  params = jax.jit(system.init)(jax.random.key(0))
  found, video, noise = scored(system, params)
  target = video
  if predict == "eps":
    target = np.where(OBSERVED[..., None, None, None], 0.0, noise.eps)
  np.testing.assert_allclose(found.loss, np.square(target).mean(), rtol=1e-5)


def test_learned_variances_train():
  """The authors' code stops with an error here."""
  system = small_system(model={"learn_variance": True}, schedule="cosine_steps")
  params = jax.jit(system.init)(jax.random.key(0))
  grads = jax.jit(jax.grad(lambda p: scored(system, p)[0].loss))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  kernel = grads["backbone"]["head"]["kernel"]
  assert np.abs(kernel[..., 0]).max() > 1e-4 and np.abs(kernel[..., 1]).max() > 1e-7


@pytest.mark.parametrize(
  "sections, message",
  [
    (
      {"task": {"name": "joint_images", "num_frames": 4, "num_images": 1}},
      "config.task.name: RaMViD takes clips of one video, found 'joint_images'",
    ),
    ({"model": {"scale_time_dim": 4}}, "expected 4 frames.*found 8"),
    ({"model": {"channels": 40}}, "multiple of 32"),
    ({"diffusion": {"where": "latnet"}}, "Did you mean 'latent'"),
  ],
)
def test_impossible_configs_are_named(sections, message):
  config = helpers.load_config("ramvid_digits")
  for name, values in sections.items():
    config[name] = values if "name" in values else {**config[name], **values}
  with pytest.raises(UserError, match=message):
    systems.build(config)


def test_a_learned_variance_needs_a_discrete_schedule():
  with pytest.raises(UserError, match="learn_variance: needs a discrete schedule"):
    small_system(
      model={"learn_variance": True},
      schedule="cosine",
      logsnr_min=-10.0,
      logsnr_max=10.0,
      logsnr_shift=0.0,
    )
