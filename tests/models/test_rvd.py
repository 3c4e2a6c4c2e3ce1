"""RVD: level by level is frame by frame; options, objective, sizes."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import frames as frames_lib
from vdm_jax import systems
from vdm_jax.diffusion import process
from vdm_jax.errors import UserError
from vdm_jax.models import rvd
from vdm_jax.pixels import to_float

BATCH, LENGTH, SIZE = 2, 5, 8
IN_FRONT = re.compile("(block_0|down_0_0)/(depthwise|embedding|norm_0/scale)")
MODEL = {"channels": 16, "channel_mults": (1, 2), "predictor_mults": (1, 2)}


def config(model=(), diffusion=(), **task):
  """The authors' settings, smaller: our small configs have others, which may change."""
  return helpers.load_config(
    "rvd_bair",
    dtype="float32",
    data={"frame_shape": (SIZE, SIZE, 1)},
    task={"num_frames": LENGTH, **task},
    model={**MODEL, **dict(model)},
    diffusion={"num_steps": 20, **dict(diffusion)},
    sampling={"steps": 20},
  )


@functools.cache
def _system(model, diffusion):
  return systems.build(config(model, diffusion))


def build(model=(), **diffusion):
  return _system(tuple(dict(model).items()), tuple(diffusion.items()))


# By network: systems cannot be hashed.
_PARAMS = {}


def params_of(system):
  """A fresh network, a little moved: no weight is special."""
  settings = system.network.settings
  if settings not in _PARAMS:
    with jax.ensure_compile_time_eval():  # Also if what asks first is being traced.
      fresh = jax.jit(system.init)(jax.random.key(0))
    _PARAMS[settings] = helpers.lively(fresh, scale=0.02)
  return jax.tree.map(lambda a: a, _PARAMS[settings])


def case(seed=0):
  rng = np.random.default_rng(seed)
  shape = (BATCH, LENGTH, SIZE, SIZE, 1)
  video = np.tanh(rng.standard_normal(shape)).astype(np.float32)
  eps = rng.standard_normal(shape).astype(np.float32)
  observed = np.ones((BATCH, LENGTH), bool)
  latent = observed & (np.arange(LENGTH) >= 2)
  frames = frames_lib.clip(BATCH, LENGTH).replace(observed=observed, latent=latent)
  return video, eps, frames


def score(system, params=None, u=(0.3, 0.8), video=None):
  """The loss of the case at given times, and the noise."""
  found, eps, frames = case()
  video = found if video is None else video
  noise = system.noise(jnp.array(u), eps)
  program = jax.jit(lambda p: system.score(p, video, frames, {}, noise))
  return program(params_of(system) if params is None else params), noise


def gradient(system, **options):
  return jax.jit(jax.grad(lambda p: score(system, p, **options)[0].loss))(
    params_of(system)
  )


def encode(system, video, state=None, last=1):
  frames = frames_lib.clip(*video.shape[:2])
  return system.network.apply(
    {"params": params_of(system)}, video, frames, {}, state, last=last, method="encode"
  )


@pytest.mark.integration
@pytest.mark.parametrize(
  "model, diffusion",
  [
    ({}, {}),
    ({"recurrent_block": "convnext", "denoiser_block": "convnext"}, {"norm": "l2"}),
    ({"residual": False, "context_factor": 0.5}, {"predict": "x"}),
    (  # Three levels: the first number of them with a skip in use.
      {
        "channel_mults": (1, 1, 2),
        "predictor_mults": (1, 1, 2),
        "predictor_factor": 1.5,
        "residual_scale": 0.5,
      },
      {"step_per_frame": True, "regression_weight": 0.3},
    ),
  ],
)
def test_level_by_level_equals_frame_by_frame(model, diffusion):
  """Training reads all frames at once; a roll-out hands its state on."""
  system, params = build(model, **diffusion), params_of(build(model, **diffusion))
  settings, objective = system.network.settings, system.objective
  whole, noise = score(system)
  video, eps, _ = case()

  @jax.jit
  def step(window, state, level, eps):
    """Predicts the second frame of a window and scores that."""
    encoded = encode(system, window, state)
    y = window[:, 1:] - (0.0 if encoded.base is None else encoded.base[:, 1:])
    y = y / settings.residual_scale
    z = process.forward(y, eps, level)
    output = system.network.apply(
      {"params": params}, z, level, None, encoded.context, method="denoise"
    )
    return encoded, z, output, (output - (eps if objective.predict == "eps" else y))

  state, zs, outputs, errors, mus = None, [], [], [], []
  for i in range(LENGTH - 1):
    level = noise.level
    if system.step_per_frame:
      level = jax.tree.map(lambda a, i=i: a[:, i + 1], level)
    encoded, *found = step(video[:, i : i + 2], state, level, eps[:, i + 1 : i + 2])
    state = encoded.state
    if i >= 1:  # Scored frames are those from index 2 on.
      for record, value in zip((zs, outputs, errors), found, strict=True):
        record.append(value)
      mus.append(encoded.context.mu)
  together = [np.concatenate(record, axis=1) for record in (zs, outputs, errors)]
  np.testing.assert_allclose(whole.z, together[0], atol=1e-5)
  np.testing.assert_allclose(whole.output, together[1], atol=1e-5)
  error = np.abs if objective.norm == "l1" else np.square
  loss = error(together[2]).mean()
  if settings.residual:
    mu = np.concatenate(mus, axis=1)
    np.testing.assert_allclose(whole.mu, np.clip(mu, -1, 1), atol=1e-5)
    loss += system.regression_weight * error(video[:, 2:] - mu).mean()
  else:
    assert whole.mu is None and "predictor" not in params
  np.testing.assert_allclose(whole.loss, loss, rtol=1e-5)


def test_nothing_of_a_frame_or_after_it_is_in_its_prediction():
  system = build()
  video, _, _ = case()
  read = jax.jit(functools.partial(encode, system, last=LENGTH - 1))
  before = read(video)
  other = np.array(video)
  other[:, 3] += 0.5
  after = read(other)
  for a, b in zip(before.context.states, after.context.states, strict=True):
    # Entry k is for slot k + 1, made from the frames up to k.
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert np.abs(a[:, 3] - b[:, 3]).max() > 1e-3
  np.testing.assert_array_equal(before.base[:, :4], after.base[:, :4])
  assert np.abs(before.base[:, 4] - after.base[:, 4]).max() > 1e-4
  assert not np.any(before.base[:, 0])
  # The last frame is not read at all: in a roll-out it does not exist yet.
  other = np.array(video)
  other[:, -1] = np.nan
  for a, b in zip(jax.tree.leaves(read(other)), jax.tree.leaves(before), strict=True):
    np.testing.assert_array_equal(a, b)


def test_frames_are_read_clipped():
  """Sampled frames leave [-1, 1]; the recurrent networks never see that."""
  system = build()
  video = 3.0 * case()[0]
  read = jax.jit(functools.partial(encode, system))
  found, expected = read(video), read(np.clip(video, -1, 1))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.integration
@pytest.mark.parametrize("block", ["resnet", "convnext"])
def test_every_parameter_matters_and_has_a_finite_gradient(block):
  # Trained by the noise alone: the predictor's only way is through the residual.
  system = build({"recurrent_block": block, "denoiser_block": block})
  for path, grad in jax.tree_util.tree_leaves_with_path(gradient(system)):
    assert np.isfinite(grad).all()
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    # ConvNeXt's first layer norm is over the channels of a frame, here one: whatever
    # comes before it is lost, as in the authors' code.
    lost = block == "convnext" and IN_FRONT.search(name)
    assert (np.abs(grad).max() > 1e-9) != bool(lost), name


def test_gradients_are_finite_where_everything_is_clamped():
  system = build(regression_weight=1.0)
  params = params_of(system)
  params["predictor"]["mu"]["bias"] = params["predictor"]["mu"]["bias"] + 50.0
  video = np.ones_like(case()[0])
  grads = jax.jit(jax.grad(lambda p: score(system, p, video=video)[0].loss))(params)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
  # The loss on the prediction is taken before the clamp, and pulls it back.
  assert np.abs(grads["predictor"]["mu"]["bias"]).max() > 0.1


def largest(tree):
  return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


@pytest.mark.integration
def test_a_stopped_gradient_leaves_the_predictor_to_its_own_loss():
  video, _, _ = case()
  stopped = gradient(build(regression_weight=0.7, stop_gradient=True))
  free = gradient(build(regression_weight=0.7))
  plain = gradient(build())
  for net in ("denoiser", "context"):
    for a, b in zip(*map(jax.tree.leaves, (stopped[net], free[net])), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-6 + 1e-4 * np.abs(b).max())
  # free = stopped + what the denoiser's loss says, in the predictor.
  assert largest(plain["predictor"]) > 1e-5
  for a, b, c in zip(
    *(jax.tree.leaves(g["predictor"]) for g in (free, stopped, plain)), strict=True
  ):
    np.testing.assert_allclose(a, b + c, atol=1e-6 + 1e-4 * np.abs(a).max())


def test_one_step_a_clip_or_one_a_frame():
  u, eps = jnp.array([0.3, 0.8]), jnp.zeros((2, LENGTH, 1, 1, 1))
  assert build().noise(u, eps).step.tolist() == [6, 16]
  step = np.asarray(build(step_per_frame=True).noise(u, eps).step)
  assert step.shape == (2, LENGTH) and step[:, 0].tolist() == [6, 16]
  # Those of a clip are spread: no two of five are within a tenth of the range.
  gaps = np.diff(np.sort(step, axis=1), axis=1)
  assert gaps.min() >= 2
  found, _ = score(build(step_per_frame=True))
  assert found.z.shape == (BATCH, LENGTH - 2, SIZE, SIZE, 1)


def test_the_first_scored_frame_is_the_tasks():
  video, eps, frames = case()
  system = systems.build(config(num_context=1))
  noise = system.noise(jnp.array([0.3, 0.8]), eps)
  found = jax.eval_shape(
    lambda p: system.score(p, video, frames, {}, noise), params_of(build())
  )
  assert found.z.shape[1] == found.mu.shape[1] == LENGTH - 1


def test_the_loss_logs_how_much_of_the_prediction_is_clamped():
  system = build()
  batch = helpers.random_batch(system, BATCH)
  batch |= {"example": np.arange(BATCH), "stratum": np.arange(BATCH) / BATCH}
  loss = jax.jit(system.loss, static_argnums=3)
  params = params_of(system)

  def logged(params):
    total, metrics = loss(params, batch, jax.random.key(0), True)
    mean = float(metrics["loss"][0] / metrics["loss"][1])
    assert mean == pytest.approx(float(total), rel=1e-5)
    return {
      name: float(total / count) for name, (total, count) in metrics.items() if count
    }

  assert logged(params)["mu_clamped"] == 0.0
  saturated = jax.tree.map(lambda a: a, params)
  saturated["predictor"]["mu"]["bias"] = params["predictor"]["mu"]["bias"] + 50.0
  found = logged(saturated)
  assert found["mu_clamped"] == 1.0
  # It says 1 everywhere.
  expected = np.abs(1.0 - to_float(batch["video"])[:, 2:]).mean()
  assert found["mu_error"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.integration
def test_rematerialisation_changes_neither_parameters_nor_gradients():
  plain, again = gradient(build()), gradient(build({"remat": "block"}))
  whole = largest(plain)
  for a, b in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max() + 1e-6 * whole)


def test_bfloat16_keeps_parameters_states_and_prediction_in_float32():
  system = build()
  half = dataclasses.replace(system.network.settings, dtype=jnp.bfloat16)
  video = case()[0]

  def both(settings):
    frames = frames_lib.clip(BATCH, LENGTH)
    return rvd.RvdNetwork(settings).apply(
      {"params": params_of(system)}, video, frames, {}, method="encode"
    )

  low, full = (
    jax.jit(functools.partial(both, s))() for s in (half, system.network.settings)
  )
  assert {a.dtype for a in jax.tree.leaves(low)} == {np.dtype("float32")}
  error = np.sqrt(np.mean((low.base - full.base) ** 2)) / np.std(full.base[:, -1])
  assert 1e-5 < error < 0.1


@pytest.mark.parametrize(
  "sections, message",
  [
    ({"data": {"frame_shape": (18, 16, 1)}}, "18x16 is not a multiple of 4.*3 levels"),
    ({"model": {"channels": 20}}, "channels: level widths.*multiples of 8"),
    ({"model": {"context_factor": 0.25}}, "context_factor: level widths \\(4, 8"),
    ({"model": {"predictor_factor": 0.4}}, "predictor_factor: level widths"),
    ({"model": {"residual_scale": 0.0}}, "residual_scale: expected > 0, found 0.0"),
    (
      {"model": {"recurrent_block": "resent"}},
      "recurrent_block.*Did you mean 'resnet'",
    ),
    ({"diffusion": {"regression_weight": -1.0}}, "regression_weight: expected >= 0"),
    ({"diffusion": {"predict": "noise"}}, "prediction 'noise'. Known: eps, flow, v, x"),
    ({"diffusion": {"stop_gradient": True, "regression_weight": 0.0}}, "nothing would"),
    (
      {"model": {"residual": False}, "diffusion": {"regression_weight": 1.0}},
      "regression_weight: there is no prediction",
    ),
    ({"task": {"num_frames": 2}}, "2 frames leave none to score after the 2"),
    ({"task": {"num_context": 0}}, "num_context: expected >= 1, found 0"),
    (
      {"task": {"name": "unconditional", "num_frames": 4}},
      "trained by 'next_frame', found 'unconditional'",
    ),
  ],
)
def test_impossible_configs_are_named(sections, message):
  of_test = config({"channel_mults": (1, 2, 4), "predictor_mults": (1, 2, 4)})
  for name, values in sections.items():
    of_test[name] = values if "name" in values else {**of_test[name], **values}
  with pytest.raises(UserError, match=message):
    system = systems.build(of_test)
    jax.eval_shape(system.init, jax.random.key(0))


@pytest.mark.parametrize("length, last", [(1, 1), (4, 4), (4, 0)])
def test_there_must_be_frames_before(length, last):
  with pytest.raises(
    UserError, match=f"a window of {length} frames cannot have {last}"
  ):
    encode(build(), case()[0][:, :length], last=last)
