"""Writing of RVD's checkpoints: the networks and the schedule's tables."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.interop import rvd_layout, writing
from vdm_jax.systems import rvd, sections

# The authors' names of data sets, in test configurations, by ours.
_DATASETS = {
  "bair": "bair_robot_pushing",
  "kth": "kth_actions",
  "cityscapes": "city",
  "fluid": "simu",
}
# Values that the authors' code supports of our own fields and of the denoiser's block.
_MODEL = {
  "residual_scale": (1.0,),
  "finest_skip": (False,),
  "join": (False,),
  "estimate_frame": (False,),
  "denoiser_block": ("resnet",),
}
_DIFFUSION = {
  "schedule": ("cosine_steps",),
  "cosine_s": (0.008,),
  "max_beta": (0.999,),
  "rescale_time": (False,),
  "predict": ("eps", "x"),
  "gamma": (0.0,),
}
# Replaces the zero variance of step 0 in its log variance.
_VARIANCE_FLOOR = 1e-20


def refusals(trained: writing.Trained) -> list[str]:
  """Lists what the authors' code cannot run, see `writing`."""
  height, width, _ = shape = trained.system.frame_shape
  found = []
  if height != width:
    found.append(f"config.data.frame_shape = {shape} (there: squares)")
  found += writing.unlike("model", vars(trained.network), _MODEL)
  if not trained.network.context_factor:
    found.append("config.model.context_factor = 0 (there: more than 0)")
  return found + writing.unlike("diffusion", vars(_diffusion(trained)), _DIFFUSION)


def write(trained: writing.Trained) -> writing.Written:
  """Makes the file, see `writing`.

  Averages take the place of raw parameters, too, as the authors' test script reads
  those.
  """
  options = _options(trained)
  state = tables(trained.system.schedule) | writing.state_dict(
    rvd_layout.entries(trained.network), trained.params
  )
  name = _name(trained, options)
  contents = {"step": trained.step, "model": state, "ema": state}
  # The first of three files that the authors write in turn, and the one they test.
  return writing.Written(f"{name}/{name}_0.pt", contents, options)


def tables(schedule: DiscreteSchedule) -> dict[str, np.ndarray]:
  """Computes the tables [N] of a schedule, float32, in the order of the state dict."""
  betas, cumprod = schedule.betas, schedule.alphas_cumprod
  previous = np.append(1.0, cumprod[:-1])
  variance = betas * (1.0 - previous) / (1.0 - cumprod)
  found = {
    "betas": betas,
    "alphas_cumprod": cumprod,
    "alphas_cumprod_prev": previous,
    "sqrt_alphas_cumprod": np.sqrt(cumprod),
    "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - cumprod),
    "log_one_minus_alphas_cumprod": np.log(1.0 - cumprod),
    "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / cumprod),
    "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / cumprod - 1.0),
    "posterior_variance": variance,
    "posterior_log_variance_clipped": np.log(np.maximum(variance, _VARIANCE_FLOOR)),
    "posterior_mean_coef1": betas * np.sqrt(previous) / (1.0 - cumprod),
    "posterior_mean_coef2": (1.0 - previous) * np.sqrt(1.0 - betas) / (1.0 - cumprod),
  }
  return {key: table.astype(np.float32) for key, table in found.items()}


def _diffusion(trained: writing.Trained) -> rvd.Diffusion:
  return sections.read(rvd.Diffusion, trained.config["diffusion"], "config.diffusion")


def _options(trained: writing.Trained) -> dict[str, Any]:
  """Returns the values of such a model in the authors' config.py, by their names."""
  network, section = trained.network, _diffusion(trained)
  height, _, channels = trained.system.frame_shape
  return {
    "img_size": height,
    "img_channel": channels,
    "embed_dim": network.channels,
    "dim_mults": tuple(network.channel_mults),
    "transform_dim_mults": tuple(network.predictor_mults),
    "context_dim_factor": network.context_factor,
    "transform_dim_factor": network.predictor_factor,
    "backbone": network.recurrent_block,
    "transform_mode": "residual" if network.residual else "none",
    "pred_mode": "noise" if section.predict == "eps" else "pred_true",
    "loss_type": section.norm,
    "iteration_step": section.num_steps,
  }


def _name(trained: writing.Trained, options: Mapping[str, Any]) -> str:
  """Returns the authors' file name of a model, of which an import reads a part."""
  data = trained.config["data"]["name"]
  dataset = _DATASETS.get(data.partition("/")[0], re.sub(r"\W+", "_", data) or "none")
  optimizer = "adamw" if trained.config["optimizer"]["name"] == "adamw" else "adam"
  return (
    f"{options['backbone']}-{optimizer}-{options['pred_mode']}-{options['loss_type']}-"
    f"{dataset}-d{options['embed_dim']}-t{options['iteration_step']}-"
    f"{options['transform_mode']}-alFalse"
  )
