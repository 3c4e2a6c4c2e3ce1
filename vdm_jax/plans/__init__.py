"""Plans, which choose the frames to sample next, given those that exist."""

import functools

from vdm_jax.plans import embedding, optimized
from vdm_jax.plans.adaptive import AdaptiveAutoreg, AdaptiveHierarchy
from vdm_jax.plans.blocks import Blocks
from vdm_jax.plans.extension import Extension, Fill
from vdm_jax.plans.hierarchy import Hierarchy
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
  Listed,
  Plan,
  build,
  check_stage,
  known,
  register,
  stage,
  stages,
)
from vdm_jax.plans.rollout import Rollout
from vdm_jax.plans.scheme import Autoreg, LongRange, Scheme
from vdm_jax.plans.windows import AnyFrames, Consecutive, Recurrent, Windows

register("blocks", Blocks)
register("extension", Extension)
register("fill", Fill)
register("rollout", Rollout)
register("autoreg", Autoreg)
register("long-range", LongRange)
register("mixed-autoreg-independent", LongRange)  # The name in FDM's older code.
for _plan in (
  Independent, ReallyIndependent, ExponentialPast, OneBefore, KeysFirst, Google
):  # fmt: skip
  register(_plan.name, _plan)
for _levels in (2, 3, 4, 5):
  register(f"hierarchy-{_levels}", functools.partial(Hierarchy, _levels))
register("optimized", optimized.from_file)
register("adaptive-autoreg", AdaptiveAutoreg)
for _levels in (2, 3):
  register(
    f"adaptive-hierarchy-{_levels}", functools.partial(AdaptiveHierarchy, _levels)
  )

__all__ = [
  "AdaptiveAutoreg",
  "AdaptiveHierarchy",
  "AnyFrames",
  "Autoreg",
  "Blocks",
  "Consecutive",
  "Extension",
  "Fill",
  "Hierarchy",
  "Listed",
  "LongRange",
  "Plan",
  "Recurrent",
  "Rollout",
  "Scheme",
  "Summary",
  "Windows",
  "build",
  "check_stage",
  "draw",
  "embedding",
  "known",
  "register",
  "stage",
  "stages",
  "summary",
]
