"""Configs of FDM: they load, describe a system, and have the authors' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import helpers
from vdm_jax import plans, systems
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.pixels import to_float
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.systems import parts

AUTHORS = ("fdm_carla", "fdm_gqn_mazes", "fdm_minerl")
OURS = ("fdm_maze", "fdm_maze_small")

# Parameters of the networks; those of the authors' are counted in their own.
SIZES = {
  "fdm_carla": 80_358_147,
  "fdm_gqn_mazes": 115_985_411,
  "fdm_minerl": 115_985_411,
  "fdm_maze_small": 1_119_724,
}


@pytest.mark.parametrize("name", AUTHORS + OURS)
def test_config_describes_a_system_and_how_to_sample_it(name):
  config = helpers.load_config(name)
  system = systems.build(config)
  settings = SamplerSettings.from_config(config["sampling"])
  assert len(settings.grid(system.schedule).logsnr) == config["sampling"]["steps"] + 1
  step_size = 2 if name == "fdm_maze_small" else system.window // 2
  size = {"max_frames": system.window, "step_size": step_size}
  assert {key: system.plan_options[key] for key in size} == size
  plan = plans.build(
    system.plan, length=300, given=tuple(range(36)), window=system.window,
    **system.plan_options,
  )  # fmt: skip
  held = [int((~f.padding).sum(axis=1).max()) for f in plans.stages(plan)]
  assert max(held) <= system.window


@pytest.mark.parametrize("name", SIZES)
def test_size_of_the_network(name):
  system = systems.build(helpers.load_config(name))
  params = jax.eval_shape(system.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == SIZES[name]


@pytest.mark.parametrize(
  "name, clip_length, blocks, num_steps",
  [
    ("fdm_carla", 1000, 1, 550_000),
    ("fdm_gqn_mazes", 300, 2, 950_000),
    ("fdm_minerl", 500, 2, 850_000),
  ],
)
def test_the_authors_settings(name, clip_length, blocks, num_steps):
  config = helpers.load_config(name)
  task, model, optimizer = config["task"], config["model"], config["optimizer"]
  assert task == {
    "name": "random_subsets",
    "max_frames": 20,
    "clip_length": clip_length,
    "padding": "random",
  }
  assert model["channels"] == 128 and model["blocks"] == blocks
  assert model["num_heads"] == 4 and model["attention_resolutions"] == [16, 8]
  assert model["scale_shift"] and model["padding_in_norm"]
  assert optimizer["learning_rate"] == 1e-4 and optimizer["clip_norm"] == 0.0
  assert (optimizer["b1"], optimizer["b2"]) == (0.9, 0.999)
  assert optimizer["weight_decay"] == 0.0 and optimizer["warmup_steps"] == 0
  assert optimizer["decay"] == "constant"
  assert config["train"]["ema"] == [0.9999]
  assert config["train"]["num_steps"] == num_steps
  assert config["sampling"]["sampler"] == "ancestral"
  assert config["sampling"]["gamma"] == 1.0 and config["sampling"]["steps"] == 1000
  assert config["train"]["batch_size"] % 8 == 0  # Chips of its slice.
  assert config["preflight"]["topology"] == "v5e:2x4"
  system = systems.build(config)
  assert isinstance(system.schedule, DiscreteSchedule)
  assert system.schedule.num_steps == 1000
  assert float(system.schedule.betas[-1]) == pytest.approx(0.02)
  assert system.objective == parts.Objective(
    predict="eps", space="eps", where="unobserved", normalise="all"
  )
  assert system.gamma == 1.0


def test_a_bad_field_is_named():
  with pytest.raises(UserError, match="config.diffusion.where"):
    systems.build(helpers.load_config("fdm_maze_small", diffusion={"where": "padding"}))
  for field in ("norm", "normalise"):
    with pytest.raises(UserError, match=f"config.diffusion.{field}.*'no'"):
      systems.build(helpers.load_config("fdm_maze_small", diffusion={field: "no"}))
  with pytest.raises(UserError, match="channels: level 0 has 48 channels"):
    systems.build(helpers.load_config("fdm_maze_small", model={"channels": 48}))
  with pytest.raises(UserError, match="max_frames=20"):
    systems.build(helpers.load_config("fdm_carla", task={"clip_length": 8}))


def small_system(**diffusion):
  config = helpers.load_config(
    "fdm_carla",
    dtype="float32",
    model={
      "channels": 32,
      "channel_mults": (1,),
      "attention_resolutions": (),
      "blocks": 1,
    },
    data={"frame_shape": (8, 8, 3)},
    task={"clip_length": 30, "max_frames": 4},
    diffusion={"num_steps": 40, "predict": "v", "loss_space": "v", **diffusion},
  )
  return systems.build(config)


def small_case(system):
  """Lively parameters, and a batch with padding and a given frame."""
  batch = helpers.random_batch(system, 2)
  batch["frames"] = Frames(
    index=np.array([[3, 9, 20, 5], [1, 2, 3, 4]], np.int32),
    observed=np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool),
    latent=np.array([[0, 1, 0, 0], [1, 1, 1, 0]], bool),
    group=np.zeros((2, 4), np.int32),
  )
  batch |= {"example": np.arange(2), "stratum": np.arange(2) / 2}
  shapes = jax.eval_shape(system.init, jax.random.key(0))
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  return helpers.lively(zeros), batch


def test_the_loss_counts_padding_and_divides_by_all_frames():
  system = small_system()
  params, batch = small_case(system)
  video, frames = to_float(batch["video"]), batch["frames"]
  eps = np.random.default_rng(1).standard_normal(video.shape).astype(np.float32)
  noise = system.noise(jnp.array([0.3, 0.8]), eps)
  scored = jax.jit(system.score)(params, video, frames, {}, noise)
  alpha, sigma = (
    np.sqrt(jax.nn.sigmoid(sign * noise.level.logsnr))[:, None, None, None, None]
    for sign in (1, -1)
  )
  error = np.square(scored.output - (alpha * eps - sigma * video)).mean((2, 3, 4))
  counted = (error * ~frames.observed).sum(1) / 4
  np.testing.assert_allclose(scored.per_example, counted, rtol=1e-4)
  np.testing.assert_allclose(scored.loss, counted.mean(), rtol=1e-4)
  latent = (error * frames.latent).sum(1) / frames.latent.sum(1)
  np.testing.assert_allclose(scored.latent, latent, rtol=1e-4)


def test_the_bound_is_an_objective_too():
  system = small_system(kind="kl", where="all")
  params, batch = small_case(system)
  loss, metrics = jax.jit(system.loss, static_argnums=3)(
    params, batch, jax.random.key(0), False
  )
  total, count = metrics["loss"]
  assert total / count == pytest.approx(float(loss), rel=1e-5) and count == 2
  assert 0 < loss < np.inf
