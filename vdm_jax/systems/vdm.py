"""VDM (Ho et al. 2022), a space-time U-Net with a continuous-time diffusion."""

from collections.abc import Mapping
from typing import Any

from vdm_jax.errors import UserError
from vdm_jax.models import vdm
from vdm_jax.systems import observed, parts, sections, system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """Builds the system of a config with `config.system = 'vdm'`.

  Raises:
    UserError: the network does not take the frame, or a field's value is invalid.
  """
  model = dict(config["model"])
  drop = sections.take(model, "cond_drop", "config.model")
  height, width, _ = config["data"]["frame_shape"]
  network = sections.network(vdm.VdmSettings, config, model)
  network.check(height, width)
  shared = sections.shared(config)
  if network.conv_time and shared["task"].num_sources > 1:
    raise UserError(
      "config.model.conv_time: convolutions over time would mix a clip with its "
      f"{shared['task'].num_sources - 1} independent images; expected "
      "config.task.num_images = 0"
    )
  return system.DiffusionSystem(
    network=vdm.VdmUNet(network),
    cond=parts.CondSpec(
      num_labels=network.num_labels,
      token_dim=network.token_dim,
      max_tokens=config["data"].get("max_tokens", 0),
      drop=drop,
    ),
    observed=observed.ByGuidance(),
    **shared,
  )
