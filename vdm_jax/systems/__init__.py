"""Systems: one paper each, built from a config; what the commands talk to."""

from vdm_jax.systems import vdm
from vdm_jax.systems.registry import build, register
from vdm_jax.systems.system import DiffusionSystem

register("vdm", vdm.build)

__all__ = ["DiffusionSystem", "build", "register"]
