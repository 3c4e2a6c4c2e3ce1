"""Plans: which frames to sample next, given what exists."""

import functools

from vdm_jax.plans import embedding
from vdm_jax.plans.adaptive import AdaptiveAutoreg, AdaptiveHierarchy
from vdm_jax.plans.blocks import Blocks
from vdm_jax.plans.extension import Extension, Fill
from vdm_jax.plans.hierarchy import Hierarchy
from vdm_jax.plans.optimise import optimised
from vdm_jax.plans.original import (
  ExponentialPast,
  Google,
  Independent,
  KeysFirst,
  OneBefore,
  ReallyIndependent,
)
from vdm_jax.plans.outline import Summary, draw, summary
from vdm_jax.plans.plan import (
  WINDOWS,
  Listed,
  Plan,
  build,
  check_stage,
  check_window,
  known,
  register,
  stage,
  stages,
)
from vdm_jax.plans.rollout import Rollout
from vdm_jax.plans.scheme import Autoreg, LongRange, Scheme

register("blocks", Blocks)
register("extension", Extension)
register("fill", Fill)
register("rollout", Rollout)
register("autoreg", Autoreg)
register("long-range", LongRange)
register("mixed-autoreg-independent", LongRange)  # Its name in FDM's older code.
for _plan in (
  Independent, ReallyIndependent, ExponentialPast, OneBefore, KeysFirst, Google
):  # fmt: skip
  register(_plan.name, _plan)
for _levels in (2, 3, 4, 5):
  register(f"hierarchy-{_levels}", functools.partial(Hierarchy, _levels))
register("optimised", optimised)
register("adaptive-autoreg", AdaptiveAutoreg)
for _levels in (2, 3):
  register(
    f"adaptive-hierarchy-{_levels}", functools.partial(AdaptiveHierarchy, _levels)
  )

# Plans whose stages depend on what was sampled.
LOOKING = ("adaptive-autoreg", "adaptive-hierarchy-2", "adaptive-hierarchy-3")

__all__ = [
  "LOOKING",
  "WINDOWS",
  "AdaptiveAutoreg",
  "AdaptiveHierarchy",
  "Autoreg",
  "Blocks",
  "Extension",
  "Fill",
  "Hierarchy",
  "Listed",
  "LongRange",
  "Plan",
  "Rollout",
  "Scheme",
  "Summary",
  "build",
  "check_stage",
  "check_window",
  "draw",
  "embedding",
  "known",
  "register",
  "stage",
  "stages",
  "summary",
]
