"""Standard errors by a jackknife."""

import numpy as np
import pytest

from vdm_jax.metrics import jackknife


def test_jackknife_of_a_mean_is_its_standard_error():
  values = np.random.default_rng(0).standard_normal(10)
  value, error = jackknife.estimate(lambda chosen: values[chosen].mean(), 10)
  assert value == pytest.approx(values.mean())
  assert error == pytest.approx(values.std(ddof=1) / np.sqrt(10))
  assert np.isnan(jackknife.estimate(lambda chosen: 1.0, 1)[1])


def test_of_two_sets_it_is_the_standard_error_of_their_difference():
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal(10), rng.standard_normal(10)
  value, error = jackknife.estimate(lambda i, j: a[i].mean() - b[j].mean(), 10, 10)
  assert value == pytest.approx(a.mean() - b.mean())
  assert error == pytest.approx((a - b).std(ddof=1) / np.sqrt(10))
  # Of 3 videos no two groups of 2 can be made.
  few = jackknife.estimate(lambda i, j: a[i].sum(), 3, 10, least=2)
  assert few[0] == pytest.approx(a[:3].sum()) and np.isnan(few[1])
