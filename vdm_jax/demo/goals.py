"""What a demo promises: numbers, their limits, and whether they were reached."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Goal:
  """A number with a limit.

  Attributes:
    name: what is promised, as a phrase with its unit.
    value: what was measured; NaN where nothing could be.
    limit: what it must reach.
    at_least: it must not be below the limit; else not above it.
    strict: it must not equal the limit either.
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
    """What results.json says of it."""
    known = math.isfinite(self.value)
    return {
      "name": self.name,
      "value": float(self.value) if known else None,
      "limit": float(self.limit),
      "met": self.met,
    }


def text(goals: Sequence[Goal]) -> str:
  """The goals as a list, met or not."""
  signs = {(True, False): "at least", (True, True): "above",
           (False, False): "at most", (False, True): "below"}  # fmt: skip
  lines = ["goals:"]
  for goal in goals:
    state = "met    " if goal.met else "NOT met"
    sign = signs[goal.at_least, goal.strict]
    lines.append(f"  {state}  {goal.name}: {goal.value:.3g} ({sign} {goal.limit:.3g})")
  return "\n".join(lines)


def unfinished(steps: int, usual: int) -> str:
  """Says that a model has been trained too little to be judged; '' if it has not.

  Args:
    steps: of the run.
    usual: that the demo's time gives on two quiet cores.
  """
  if steps >= 0.6 * usual:
    return ""
  return (
    f"This model is unfinished: {steps} steps of training, where about {usual} are "
    "usual. The machine is slow or busy, or it was given less time; DEMO_SECONDS=N "
    "trains for longer, from where this ended."
  )
