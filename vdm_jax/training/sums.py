"""Sums of metrics over steps on the device, and their means on the host."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

# Metrics of which the last value counts, and those of which the largest does.
_LAST = ("bad_total", "learning_rate")
_LARGEST = ("bad_in_row",)


def add(sums: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
  """Adds [total, count] metrics of later steps to those of earlier ones.

  Args:
    sums: sums of earlier steps, by name.
    metrics: metrics of later steps, by the same names.

  Returns:
    The sums over both; but the later value of a learning rate and the like, and the
    largest number of steps skipped in a row.
  """

  def merge(name, before, after):
    if name in _LAST:
      return after
    if name in _LARGEST:
      return jnp.maximum(before, after)
    return before + after

  return {name: merge(name, sums[name], value) for name, value in metrics.items()}


class Means:
  """Running means of [total, count] metrics on the host, without empty ones."""

  def __init__(self):
    self._sums: dict[str, np.ndarray] = {}

  def add(self, metrics: Mapping[str, Any]) -> None:
    """Adds metrics, or sums of them."""
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
    """Returns the means so far, and starts again."""
    means = {
      name: float(total / count) for name, (total, count) in self._sums.items() if count
    }
    self._sums = {}
    return means
