"""CRPS against closed forms; the golden cases are in tests/golden."""

import numpy as np
import pytest
import scipy.stats

from tests import annotations
from vdm_jax.metrics.crps import crps


def of_gaussian(y, scale):
  """CRPS of N(0, scale^2) at y (Gneiting and Raftery 2007, equation 21)."""
  z = y / scale
  law = scipy.stats.norm
  return scale * (z * (2 * law.cdf(z) - 1) + 2 * law.pdf(z) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize("y, scale", [(0.0, 1.0), (0.7, 0.4)])
def test_fair_is_unbiased_and_plug_in_too_high_by_what_is_known(y, scale):
  size, repeats = 4, 200_000
  members = scale * np.random.default_rng(0).standard_normal((size, repeats))
  truth = np.full(repeats, y)
  exact = of_gaussian(y, scale)
  for fair in (True, False):
    values = crps(members, truth, fair=fair)
    error = values.std() / np.sqrt(repeats)
    # The plug-in misses pairs of a member with itself: E|X - X'| / (2 S).
    bias = 0.0 if fair else scale / np.sqrt(np.pi) / size
    assert abs(values.mean() - exact - bias) < 4 * error
    assert error < 0.002


def test_many_members_are_the_law():
  x = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
  truth = np.array([-1.5, 0.0, 2.0])
  members = np.broadcast_to(x[:, None], (len(x), 3))
  np.testing.assert_allclose(crps(members, truth), of_gaussian(truth, 1.0), atol=1e-4)


def test_equals_all_pairs():
  rng = np.random.default_rng(1)
  members, truth = rng.normal(size=(6, 2, 3)), rng.normal(size=(2, 3))
  pairs = np.abs(members[:, None] - members[None]).sum((0, 1))
  error = np.abs(members - truth).mean(0)
  np.testing.assert_allclose(crps(members, truth), error - pairs / 72)
  np.testing.assert_allclose(crps(members, truth, fair=True), error - pairs / 60)


def test_one_member_has_an_absolute_error_and_no_fair_score():
  members, truth = np.array([[1.0, 4.0]]), np.array([3.0, 4.0])
  np.testing.assert_array_equal(crps(members, truth), [2, 0])
  assert np.isnan(crps(members, truth, fair=True)).all()


@pytest.mark.parametrize("members", [np.zeros((0, 3)), np.zeros((2, 4))])
def test_shapes_are_checked(members):
  with annotations.ignored(), pytest.raises(ValueError, match="members"):
    crps(members, np.zeros(3))
