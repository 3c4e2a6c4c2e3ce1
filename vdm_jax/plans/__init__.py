"""Plans: which frames to sample next, given what exists."""

from vdm_jax.plans.blocks import Blocks
from vdm_jax.plans.plan import Plan, build, register, stages

register("blocks", Blocks)

__all__ = ["Blocks", "Plan", "build", "register", "stages"]
