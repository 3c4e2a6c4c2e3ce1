"""Tasks, which are training distributions over Frames, drawn on the host."""

from vdm_jax.tasks.clips import JointImages, Unconditional, joint_images
from vdm_jax.tasks.masks import PastFuture, RandomMask
from vdm_jax.tasks.next_frame import NextFrame
from vdm_jax.tasks.plan_stages import PlanStages
from vdm_jax.tasks.random_subsets import RandomSubsets
from vdm_jax.tasks.task import Selection, Task, build, fields, register

register("unconditional", Unconditional)
register("joint_images", joint_images)
register("past_future", PastFuture)
register("random_mask", RandomMask)
register("random_subsets", RandomSubsets)
register("plan_stages", PlanStages)
register("next_frame", NextFrame)

__all__ = [
  "JointImages",
  "NextFrame",
  "PastFuture",
  "PlanStages",
  "RandomMask",
  "RandomSubsets",
  "Selection",
  "Task",
  "Unconditional",
  "build",
  "fields",
  "register",
]
