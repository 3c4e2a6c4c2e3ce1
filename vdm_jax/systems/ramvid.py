"""RaMViD (Höppe et al. 2022), whose given frames are clean among the noisy ones."""

from collections.abc import Mapping
from typing import Any

from vdm_jax import plans
from vdm_jax.errors import UserError
from vdm_jax.models import ramvid
from vdm_jax.systems import observed, parts, sections, system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """Builds the system of a config with `config.system = 'ramvid'`.

  Raises:
    UserError: the network does not take the clip, or a field's value is invalid.
  """
  model = dict(config["model"])
  drop = sections.take(model, "cond_drop", "config.model")
  height, width, _ = config["data"]["frame_shape"]
  network = sections.network(ramvid.RamvidSettings, config, model)
  shared = sections.shared(config)
  task = shared["task"]
  network.check(task.num_frames, height, width)
  if task.num_sources != 1:
    raise UserError(
      f"config.task.name: RaMViD takes clips of one video, found "
      f"{config['task']['name']!r}"
    )
  return system.DiffusionSystem(
    network=ramvid.RamvidUNet(network),
    cond=parts.CondSpec(num_labels=network.num_labels, drop=drop),
    observed=observed.Pasted(),
    windows=plans.Consecutive(),
    learned_variance=network.learn_variance,
    **shared,
  )
