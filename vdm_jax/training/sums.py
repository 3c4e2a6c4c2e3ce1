"""Metrics of many steps as one: added up on the device, means on the host."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

# Of these the last step's value counts, and of those the largest.
_LAST = ("bad_total", "learning_rate")
_LARGEST = ("bad_in_row",)


def add(sums: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
  """Adds [total, count] metrics of later steps to those of earlier ones.

  Args:
    sums: by name, of earlier steps.
    metrics: the same names.

  Returns:
    The sums over both; of a learning rate and the like the later one, and of steps
    skipped in a row the most.
  """

  def merge(name, before, after):
    if name in _LAST:
      return after
    if name in _LARGEST:
      return jnp.maximum(before, after)
    return before + after

  return {name: merge(name, sums[name], value) for name, value in metrics.items()}


class Means:
  """Running means of [total, count] metrics on the host; an empty one is left out."""

  def __init__(self):
    self._sums: dict[str, np.ndarray] = {}

  def add(self, metrics: Mapping[str, Any]) -> None:
    """Counts metrics, or sums of them, in."""
    for name, value in metrics.items():
      value = np.asarray(value, np.float64)
      old = self._sums.get(name)
      if old is None or name in _LAST:
        self._sums[name] = value
      elif name in _LARGEST:
        self._sums[name] = np.maximum(old, value)
      else:
        self._sums[name] = old + value

  def take(self) -> dict[str, float]:
    """The means so far; starts again from nothing."""
    means = {
      name: float(total / count) for name, (total, count) in self._sums.items() if count
    }
    self._sums = {}
    return means
