"""RaMViD (Höppe et al. 2022): given frames stand clean among the noisy ones."""

from collections.abc import Mapping
from typing import Any

from vdm_jax import tasks
from vdm_jax.errors import UserError
from vdm_jax.models import ramvid
from vdm_jax.systems import system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """The system of a config with `config.system = 'ramvid'`.

  Raises:
    UserError: the clip does not fit the network, or a field has no such value.
  """
  model, d = dict(config["model"]), config["diffusion"]
  drop = model.pop("cond_drop")
  height, width, channels = config["data"]["frame_shape"]
  settings = ramvid.Settings(
    **model, out_channels=channels, dtype=system.dtype_from_config(config)
  )
  task = tasks.from_config(config["task"])
  settings.check(task.num_frames, height, width)
  if settings.learn_variance and d["schedule"] == "cosine":
    raise UserError(
      "config.model.learn_variance: needs a discrete schedule (linear_steps or "
      "cosine_steps)"
    )
  if task.num_sources != 1:
    raise UserError(
      f"config.task.name: RaMViD takes clips of one video, found "
      f"{config['task']['name']!r}"
    )
  plan, plan_options = system.plan_from_config(config)
  return system.DiffusionSystem(
    network=ramvid.RamvidUNet(settings),
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
    cond=system.CondSpec(num_labels=settings.num_labels, drop=drop),
    observed_by="paste",
    window=task.num_frames,
    stride=config["task"].get("stride", 1),
    gamma=d["gamma"],
    plan=plan,
    plan_options=plan_options,
  )
