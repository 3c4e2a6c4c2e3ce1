"""Tasks: training distributions over Frames, drawn on the host."""

from vdm_jax.tasks.clips import JointImages, Unconditional, joint_images
from vdm_jax.tasks.task import Selection, Task, from_config, register

register("unconditional", Unconditional)
register("joint_images", joint_images)

__all__ = [
  "JointImages",
  "Selection",
  "Task",
  "Unconditional",
  "from_config",
  "register",
]
