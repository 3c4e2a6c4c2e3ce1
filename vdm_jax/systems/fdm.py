"""FDM (Harvey et al. 2022), which samples any frames of a video given any others."""

from collections.abc import Mapping
from typing import Any

from vdm_jax.models import fdm
from vdm_jax.systems import sections, system


def build(config: Mapping[str, Any]) -> system.DiffusionSystem:
  """Builds the system of a config with `config.system = 'fdm'`.

  Raises:
    UserError: the network does not take the frame, or a field's value is invalid.
  """
  height, width, _ = config["data"]["frame_shape"]
  network = sections.network(fdm.FdmSettings, config)
  network.check(height, width)
  return system.DiffusionSystem(
    network=fdm.FdmUNet(network),
    learned_variance=network.learn_variance,
    **sections.shared(config),
  )
