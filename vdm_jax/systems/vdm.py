"""VDM (Ho et al. 2022): the space-time U-Net under a continuous-time diffusion."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vdm_jax import errors, tasks
from vdm_jax.diffusion import schedule
from vdm_jax.models import vdm
from vdm_jax.systems import system

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """The system of a config with `config.system = 'vdm'`.

  Raises:
    UserError: the frame does not fit the network, or a field has no such value.
  """
  if config["dtype"] not in DTYPES:
    raise errors.unknown("config.dtype", config["dtype"], DTYPES)
  model = dict(config["model"])
  drop = model.pop("cond_drop")
  height, width, channels = config["data"]["frame_shape"]
  settings = vdm.Settings(**model, out_channels=channels, dtype=DTYPES[config["dtype"]])
  settings.check(height, width)
  d = config["diffusion"]
  if d["schedule"] != "cosine":
    raise errors.unknown("config.diffusion.schedule", d["schedule"], ["cosine"])
  return system.DiffusionSystem(
    network=vdm.VdmUNet(settings),
    schedule=schedule.CosineSchedule(
      d["logsnr_min"], d["logsnr_max"], d["logsnr_shift"]
    ),
    objective=system.Objective(
      predict=d["predict"],
      space=d["loss_space"],
      weighting=d["weighting"],
      norm=d["norm"],
    ),
    task=tasks.from_config(config["task"]),
    frame_shape=(height, width, channels),
    cond=system.CondSpec(
      num_labels=settings.num_labels,
      token_dim=settings.token_dim,
      max_tokens=config["data"].get("max_tokens", 0),
      drop=drop,
    ),
    observed_by="guidance",
    window=config["task"]["num_frames"],
    stride=config["task"].get("stride", 1),
  )
