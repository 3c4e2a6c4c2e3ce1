"""Training RVD in two stages, and the options of small models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.errors import UserError

# Networks of two levels at 8 pixels: seconds to compile.
MODEL = {
  "channels": 8,
  "channel_mults": (1, 2),
  "predictor_mults": (1, 2),
  "estimate_frame": False,
}


def build(model=None, **diffusion):
  config = helpers.load_config("rvd_digits")
  config["data"]["frame_shape"] = (8, 8, 1)
  config["task"]["num_frames"] = 4
  config["model"] |= {**MODEL, **(model or {})}
  config["diffusion"] |= diffusion
  return systems.build(config)


def gradient(system, seed=0):
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.1)
  batch = helpers.random_batch(system, 2, seed)
  batch = {**batch, "example": jnp.arange(2), "stratum": jnp.arange(2) / 2}
  loss = jax.value_and_grad(system.loss, has_aux=True)
  (value, metrics), grads = jax.jit(loss, static_argnums=3)(
    params, batch, jax.random.key(1), True
  )
  return float(value), metrics, grads


def largest(tree):
  return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  "context_factor", [0.0, pytest.param(1.0, marks=pytest.mark.integration)]
)
def test_each_stage_trains_its_part_alone(context_factor):
  model = {"context_factor": context_factor}
  value, metrics, grads = gradient(build(model, train_only="predictor"))
  assert largest(grads["predictor"]) > 1e-4
  assert largest({k: v for k, v in grads.items() if k != "predictor"}) == 0
  total, count = metrics["mu_error"]
  # The loss is how far off the prediction is, before its clamp.
  assert value >= float(total / count) - 1e-6

  _, _, grads = gradient(build(model, train_only="denoiser", regression_weight=0.0))
  assert largest(grads["predictor"]) == 0
  assert largest(grads["denoiser"]) > 1e-4
  assert ("context" in grads) == bool(context_factor)
  if context_factor:
    assert largest(grads["context"]) > 1e-5


@pytest.mark.integration
def test_a_fixed_predictor_is_not_scored():
  with_loss, _, _ = gradient(build(train_only="denoiser", regression_weight=1.0))
  without, _, _ = gradient(build(train_only="denoiser", regression_weight=0.0))
  assert with_loss == without
  both, _, _ = gradient(build(regression_weight=1.0))
  assert both > with_loss


def test_mu_square_is_the_error_that_sets_the_scale():
  _, metrics, _ = gradient(build(train_only="predictor"))
  total, count = metrics["mu_square"]
  assert float(count) == 2 and 0 < float(total / count) < 4


def test_without_a_context_net_the_denoiser_reads_the_predictors_states():
  system = build({"context_factor": 0.0})
  params = jax.jit(system.init)(jax.random.key(0))
  assert set(params) == {"predictor", "denoiser"}
  batch = helpers.random_batch(system, 1)
  video = batch["video"] / 127.5 - 1
  encoded = system.network.apply(
    {"params": params}, video, None, {}, last=2, method="encode"
  )
  assert set(encoded.state) == {"predictor"}
  assert [h.shape[2:] for h in encoded.context.states] == [(8, 8, 8), (4, 4, 16)]
  np.testing.assert_allclose(encoded.context.before, video[:, 1:3], atol=1e-6)


@pytest.mark.parametrize("finest_skip", [False, True])
def test_joined_frames_and_the_finest_level_reach_the_output(finest_skip):
  system = build({"join": True, "finest_skip": finest_skip, "context_factor": 0.0})
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.1)
  names = set(params["denoiser"])
  assert ("finest_1" in names) == finest_skip
  assert params["denoiser"]["down_0_0"]["half_0"]["conv"]["kernel"].shape[2] == 3


def test_an_estimated_frame_is_the_same_estimate_of_the_residual():
  """The denoiser sees the noisy residual added to the prediction."""
  system = build({"estimate_frame": True, "residual_scale": 0.5})
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.1)
  video = helpers.random_batch(system, 2)["video"] / 127.5 - 1
  encoded = system.encode(params, video, None, {})
  mu = encoded.base[:, -1:]
  assert encoded.context.states[0].shape[1] == 1
  z = jax.random.normal(jax.random.key(1), mu.shape)
  denoise = system.denoiser(params, None, encoded.context)
  level = system.schedule.sample(jnp.asarray(0.5))
  x = denoise(jnp.pad(z, [(0, 0), (3, 0), (0, 0), (0, 0), (0, 0)]), level).x[:, 3:]
  # Without the option the same network puts out the frame, of the same input.
  plain = build({"residual_scale": 0.5})
  seen = jnp.pad(mu + 0.5 * z, [(0, 0), (3, 0), (0, 0), (0, 0), (0, 0)])
  frame = plain.denoiser(params, None, encoded.context)(seen, level).x[:, 3:]
  np.testing.assert_allclose(x, (frame - mu) / 0.5, atol=1e-5)


def test_an_estimated_frame_is_clipped_where_frames_end():
  system = build({"estimate_frame": True, "residual_scale": 0.5})
  assert system.threshold_bound is None
  params = jax.jit(system.init)(jax.random.key(0))
  video = helpers.random_batch(system, 1)["video"] / 127.5 - 1
  encoded = system.encode(params, video, None, {})
  low, high = encoded.bounds
  np.testing.assert_allclose(encoded.video(low), -1.0, atol=1e-6)
  np.testing.assert_allclose(encoded.video(high), 1.0, atol=1e-6)


@pytest.mark.parametrize(
  ("model", "diffusion", "message"),
  [
    ({}, {"train_only": "context"}, "train_only"),
    (
      {"residual": False, "context_factor": 1.0, "estimate_frame": False},
      {"train_only": "predictor", "regression_weight": 0.0},
      "train_only: there is no prediction",
    ),
    (
      {"residual": False, "estimate_frame": False},
      {"regression_weight": 0.0},
      "context_factor: without",
    ),
    ({"predictor_mults": (1, 2, 2)}, {}, "found 3 and 2"),
    ({"estimate_frame": True}, {"predict": "eps"}, "estimate_frame wants 'x'"),
    (
      {"residual": False, "context_factor": 1.0, "estimate_frame": True},
      {"regression_weight": 0.0},
      "estimate_frame: with config.model.residual = False",
    ),
  ],
)
def test_impossible_options_are_named(model, diffusion, message):
  with pytest.raises(UserError, match=message):
    build(model, **diffusion)


def test_weights_that_stay_fixed_do_not_decay():
  config = helpers.load_config("rvd_digits", optimizer={"weight_decay": 0.1})
  assert systems.build(config).train_only == ""
  config["diffusion"]["train_only"] = "denoiser"
  with pytest.raises(UserError, match="optimizer.weight_decay: 0.1 would change"):
    systems.build(config)
