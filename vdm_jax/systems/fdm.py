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
  shared = sections.shared(config)
  # Tasks without `num_obs`, such as `random_subsets`, need no given frames.
  min_given = getattr(shared["task"], "num_obs", 0)
  return system.DiffusionSystem(
    network=fdm.FdmUNet(network),
    min_given=min_given,
    learned_variance=network.learn_variance,
    **shared,
  )
