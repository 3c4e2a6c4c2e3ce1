"""Systems, built from a config: those of the papers, and the position regressor."""

from vdm_jax.systems import fdm, observed, parts, position, ramvid, rvd, sections, vdm
from vdm_jax.systems.registry import SamplingSystem, System, build, register
from vdm_jax.systems.system import DiffusionSystem

register("vdm", vdm.build)
register("fdm", fdm.build)
register("ramvid", ramvid.build)
register("rvd", rvd.build)
register("position_regressor", position.build)

__all__ = [
  "DiffusionSystem",
  "SamplingSystem",
  "System",
  "build",
  "observed",
  "parts",
  "register",
  "sections",
]
