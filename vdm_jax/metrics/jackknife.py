"""Standard errors by a jackknife over groups of videos."""

import math
from collections.abc import Callable

import numpy as np

_GROUPS = 10


def estimate(
  statistic: Callable[..., float], *counts: int, least: int = 1
) -> tuple[float, float]:
  """Computes a statistic of videos and its standard error.

  One group of videos is left out at a time, of at most ten groups: videos are
  independent, frames of one video are not. Of several sets a group of each is left out.

  Args:
    statistic: function of the numbers of some videos, int [K], of each set.
    *counts: number of videos of each set.
    least: fewest videos in a group.

  Returns:
    The value for all videos and its standard error; NaN if there is none.
  """
  everyone = [np.arange(count) for count in counts]
  value = float(statistic(*everyone))
  number = min(_GROUPS, *(count // least for count in counts))
  if number < 2:
    return value, math.nan
  groups = [np.array_split(numbers, number) for numbers in everyone]
  left = np.array(
    [
      statistic(*(np.delete(a, g) for a, g in zip(everyone, out, strict=True)))
      for out in zip(*groups, strict=True)
    ]
  )
  spread = np.sum((left - left.mean()) ** 2)
  return value, float(np.sqrt((number - 1) / number * spread))
