"""A task of exactly the windows that sampling needs: the stages of plans."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vdm_jax import plans
from vdm_jax.errors import UserError
from vdm_jax.tasks.random_subsets import padded_window
from vdm_jax.tasks.task import Selection, Task


@dataclasses.dataclass(frozen=True)
class PlanStages(Task):
  """A random stage of a random plan, at a random place of a video.

  FDM's own `random_subsets` prepares for any plan, but most of its windows observe
  nothing, so that given frames matter only after many steps. Here every window is one
  that sampling needs, so that a short training is spent on those alone. Plan and stage
  are drawn uniformly. Shorter stages are padded with frames of a second video.

  Attributes:
    plan_names: plans with `max_frames` (FDM's schemes, or a user's own), see
      `plans.build`; they must not depend on the video.
    length: frames of the videos that will be sampled.
    num_obs: number of given frames, at the start.
    max_frames: slots N of a window.
    options: options of every plan, beside max_frames.
  """

  plan_names: Sequence[str]
  length: int
  num_obs: int
  max_frames: int
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.plan_names or isinstance(self.plan_names, str):
      raise UserError(
        f"config.task.plan_names: expected a list of plans, found {self.plan_names!r}"
      )
    if not 0 <= self.num_obs < self.length:
      raise UserError(
        f"config.task.num_obs: expected 0 to {self.length - 1}, fewer than "
        f"config.task.length, found {self.num_obs}"
      )
    if "max_frames" in self.options:
      raise UserError("config.task.options: max_frames is a field of the task itself")
    stages = tuple(
      tuple(self._roles(name, stage) for stage in self._stages(name))
      for name in self.plan_names
    )
    object.__setattr__(self, "stages", stages)

  def _stages(self, name):
    plan = plans.build(
      name,
      length=self.length,
      given=tuple(range(self.num_obs)),
      window=self.max_frames,
      max_frames=self.max_frames,
      **self.options,
    )
    if getattr(plan, "looks_at_video", False):
      raise UserError(
        f"config.task.plan_names: {name!r} looks at the video that it samples"
      )
    return plans.stages(plan)

  def _roles(self, name, stage) -> dict[int, bool]:
    """Maps the frames of a stage to whether each is observed."""
    index, observed = stage.index[0].tolist(), stage.observed[0].tolist()
    if len(index) > self.max_frames:
      raise UserError(
        f"config.task.max_frames: a stage of {name!r} has {len(index)} frames, found "
        f"{self.max_frames}"
      )
    return dict(zip(index, observed, strict=True))

  @property
  def num_frames(self) -> int:
    return self.max_frames

  @property
  def min_given(self) -> int:
    return self.num_obs

  @property
  def num_sources(self) -> int:
    return 2

  @property
  def min_length(self) -> int:
    return self.length

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    """Draws one example, see `Task`.

    Raises:
      UserError: a video is shorter than `length`.
    """
    if min(lengths[:2]) < self.length:
      raise UserError(
        f"task plan_stages: expected videos of {self.length} frames or more, found "
        f"{min(lengths[:2])}"
      )
    stages = self.stages[rng.integers(len(self.stages))]
    roles = stages[rng.integers(len(stages))]
    start = int(rng.integers(lengths[0] - self.length + 1))
    return padded_window(rng, roles, self.max_frames, start, (0, int(lengths[1])))
