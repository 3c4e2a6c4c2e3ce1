"""VDM (Ho et al. 2022): the space-time U-Net under a continuous-time diffusion."""

from collections.abc import Mapping
from typing import Any

from vdm_jax import tasks
from vdm_jax.models import vdm
from vdm_jax.systems import system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """The system of a config with `config.system = 'vdm'`.

  Raises:
    UserError: the frame does not fit the network, or a field has no such value.
  """
  model = dict(config["model"])
  drop = model.pop("cond_drop")
  height, width, channels = config["data"]["frame_shape"]
  settings = vdm.Settings(
    **model, out_channels=channels, dtype=system.dtype_from_config(config)
  )
  settings.check(height, width)
  d = config["diffusion"]
  plan, plan_options = system.plan_from_config(config)
  return system.DiffusionSystem(
    network=vdm.VdmUNet(settings),
    schedule=system.schedule_from_config(d),
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
    plan=plan,
    plan_options=plan_options,
  )
