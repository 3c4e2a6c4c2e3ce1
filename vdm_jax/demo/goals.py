"""The goals of a demo: numbers with limits, and whether they were reached."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Goal:
  """A number with a limit.

  Attributes:
    name: the goal, as a phrase with its unit.
    value: the measured number; NaN if it could not be measured.
    limit: the limit that it must reach.
    at_least: whether the limit is a lower bound, or an upper one.
    strict: whether the number must differ from the limit.
  """

  name: str
  value: float
  limit: float
  at_least: bool = True
  strict: bool = False

  @property
  def met(self) -> bool:
    if math.isnan(self.value):
      return False
    if self.strict and self.value == self.limit:
      return False
    ahead = self.value - self.limit
    return bool(ahead >= 0 if self.at_least else ahead <= 0)

  def to_json(self) -> dict[str, Any]:
    """Returns the entry in results.json."""
    known = math.isfinite(self.value)
    return {
      "name": self.name,
      "value": float(self.value) if known else None,
      "limit": float(self.limit),
      "met": self.met,
    }


def text(goals: Sequence[Goal]) -> str:
  """Formats the goals as a list, met or not."""
  signs = {(True, False): "at least", (True, True): "above",
           (False, False): "at most", (False, True): "below"}  # fmt: skip
  lines = ["goals:"]
  for goal in goals:
    state = "met    " if goal.met else "NOT met"
    sign = signs[goal.at_least, goal.strict]
    lines.append(f"  {state}  {goal.name}: {goal.value:.3g} ({sign} {goal.limit:.3g})")
  return "\n".join(lines)


def unfinished(steps: int, usual: int) -> str:
  """Warns that a model was trained too little to be judged; '' if it was not.

  Args:
    steps: training steps of the run.
    usual: steps in the demo's time on two quiet cores.
  """
  if steps >= 0.6 * usual:
    return ""
  return (
    f"This model is unfinished: it was trained for {steps} steps instead of the usual "
    f"{usual} or so. The machine is slow or busy, or the time was short; "
    "DEMO_SECONDS=N resumes and trains for longer."
  )
