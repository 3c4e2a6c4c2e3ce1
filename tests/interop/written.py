"""Common parts of tests of written checkpoints: writers, small configs, weights."""

import json

import jax
import numpy as np

from tests import helpers
from vdm_jax import systems
from vdm_jax.interop import fdm_write, ramvid_write, rvd_write, writing

WRITERS = {"fdm": fdm_write, "ramvid": ramvid_write, "rvd": rvd_write}
SIZE = 32
DATA = {"name": "video_folder/mine", "frame_shape": [SIZE, SIZE, 3]}
IMPROVED = {"channels": 32, "channel_mults": [1, 2, 2, 2], "blocks": 1}
# Options that leave traces in names and shapes, and those that do not.
CONFIGS = {
  "fdm": helpers.load_config(
    "fdm_carla",
    data=DATA,
    dtype="float32",
    model={**IMPROVED, "attention_resolutions": [8], "num_heads": 2, "dropout": 0.1,
           "scale_shift": False, "num_heads_upsample": 8},
    task={"max_frames": 5, "clip_length": 40, "padding": "first"},
    diffusion={"schedule": "cosine_steps", "num_steps": 30, "predict": "x",
               "loss_space": "x", "gamma": 0.0, "rescale_time": False,
               "where": "latent", "weighting": "min_snr", "given_noise": 0.2},
    train={"ema": [0.99, 0.9]},
    sampling={"sampler": "ddim", "steps": 3},
    plan={"name": "hierarchy-2", "max_frames": 5, "step_size": 2},
  ),
  "ramvid": helpers.load_config(
    "ramvid_ucf101",
    data={**DATA, "frame_shape": [SIZE, SIZE, 1]},
    dtype="float32",
    model={**IMPROVED, "attention_resolutions": [4, 16], "num_heads": 2,
           "scale_time_dim": 4, "learn_variance": True},
    task={"num_frames": 4, "max_observed": 2},
    diffusion={"num_steps": 30, "gamma": 0.3},
    train={"ema": [0.99]},
    sampling={"steps": 3},
    plan={"name": "blocks", "overlap": 2},
  ),
  "rvd": helpers.load_config(
    "rvd_kth",
    data={**DATA, "frame_shape": [SIZE, SIZE, 1]},
    dtype="float32",
    model={"channels": 16, "channel_mults": [1, 2], "predictor_mults": [1, 2, 2],
           "context_factor": 0.5, "predictor_factor": 1.5,
           "recurrent_block": "convnext"},
    task={"num_frames": 5},
    diffusion={"num_steps": 30, "predict": "x", "norm": "l2", "loss_space": "eps",
               "regression_weight": 0.5},
    train={"ema": [0.99]},
    sampling={"sampler": "ddim", "steps": 3},
  ),
}  # fmt: skip


def changed(name, **sections):
  """A config with some fields changed."""
  config = json.loads(json.dumps(CONFIGS[name]))
  for section, values in sections.items():
    config[section] |= values
  return config


def random_params(config, seed=0):
  """Of the right shapes; without running an initialisation."""
  shapes = jax.eval_shape(systems.build(config).init, jax.random.key(0))
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  return helpers.lively(zeros, seed)


def trained(config, params=None):
  """What a writer takes; without arrays unless they are given."""
  system = systems.build(config)
  if params is None:
    params = jax.eval_shape(system.init, jax.random.key(0))
  return writing.Trained(config, system, params, 7, "0.9999")
