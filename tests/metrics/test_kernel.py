"""Kernel distances of features."""

import numpy as np
import pytest

from tests import annotations
from vdm_jax.metrics import kernel


def features(n, d=5, shift=0.0, seed=0):
  return np.random.default_rng(seed).standard_normal((n, d)) + shift


def test_it_is_the_mean_over_all_pairs():
  x, y = features(4), features(3, seed=1)

  def k(a, b):
    return (a @ b / 5 + 1) ** 3

  within = sum(k(x[i], x[j]) for i in range(4) for j in range(4) if i != j) / 12
  within += sum(k(y[i], y[j]) for i in range(3) for j in range(3) if i != j) / 6
  across = sum(k(a, b) for a in x for b in y) / 12
  assert kernel.distance(x, y) == pytest.approx(within - 2 * across)


def test_unbiased_over_many_draws():
  found = [
    kernel.distance(features(20, seed=2 * i), features(20, seed=2 * i + 1))
    for i in range(200)
  ]
  error = np.std(found) / np.sqrt(len(found))
  assert abs(np.mean(found)) < 3 * error
  biased = kernel.distance(features(20), features(20, seed=1), biased=True)
  assert biased > np.mean(found)


def test_rows_at_a_time_are_the_whole(monkeypatch):
  x, y = features(30), features(25, shift=0.3, seed=1)
  whole = kernel.distance(x, y)
  monkeypatch.setattr(kernel, "_ROWS", 7)
  assert kernel.distance(x, y) == pytest.approx(whole, rel=1e-12)


def test_subsets_agree_with_the_whole_within_their_error():
  x, y = features(400), features(400, shift=0.5, seed=1)
  value, error = kernel.of_subsets(x, y, size=100, count=50)
  assert 0 < error and abs(value - kernel.distance(x, y)) < 5 * error
  value, error = kernel.of_subsets(x, y, size=1000)
  assert value == kernel.distance(x, y) and np.isnan(error)


def test_what_does_not_fit():
  with annotations.ignored(), pytest.raises(ValueError, match="expected"):
    kernel.distance(features(4), features(4, d=6))
  with pytest.raises(ValueError, match="N >= 2"):
    kernel.distance(features(1), features(4))
  with pytest.raises(ValueError, match="paired"):
    kernel.distance(features(3), features(4), paired=True)
