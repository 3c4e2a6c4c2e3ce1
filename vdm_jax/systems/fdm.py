"""FDM (Harvey et al. 2022): any frames of a video given any others."""

from collections.abc import Mapping
from typing import Any

from vdm_jax import tasks
from vdm_jax.models import fdm
from vdm_jax.systems import system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """The system of a config with `config.system = 'fdm'`.

  Raises:
    UserError: the frame does not fit the network, or a field has no such value.
  """
  height, width, channels = config["data"]["frame_shape"]
  settings = fdm.Settings(
    **config["model"], out_channels=channels, dtype=system.dtype_from_config(config)
  )
  settings.check(height, width)
  d, task = config["diffusion"], tasks.from_config(config["task"])
  plan, plan_options = system.plan_from_config(config)
  return system.DiffusionSystem(
    network=fdm.FdmUNet(settings),
    schedule=system.schedule_from_config(d),
    objective=system.Objective(
      predict=d["predict"],
      space=d["loss_space"],
      weighting=d["weighting"],
      norm=d["norm"],
      where=d["where"],
      normalise=d["normalise"],
      kind=d["kind"],
    ),
    task=task,
    frame_shape=(height, width, channels),
    window=task.num_frames,
    gamma=d["gamma"],
    plan=plan,
    plan_options=plan_options,
  )
