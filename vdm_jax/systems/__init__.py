"""Systems: one paper each, built from a config; the interface of all commands."""

from vdm_jax.systems import fdm, position, ramvid, rvd, vdm
from vdm_jax.systems.registry import SamplingSystem, System, build, register
from vdm_jax.systems.system import DiffusionSystem

register("vdm", vdm.build)
register("fdm", fdm.build)
register("ramvid", ramvid.build)
register("rvd", rvd.build)
register("position_regressor", position.build)

__all__ = ["DiffusionSystem", "SamplingSystem", "System", "build", "register"]
