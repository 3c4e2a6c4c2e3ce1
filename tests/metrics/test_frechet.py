"""The Fréchet distance against closed forms and reference values."""

import numpy as np
import pytest

from tests import annotations
from vdm_jax.metrics import frechet


def moments(mean, covariance, count=100):
  covariance = np.asarray(covariance, np.float64)
  return frechet.Moments(count, np.asarray(mean, float), covariance * (count - 1))


def draw(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def test_closed_form_of_commuting_gaussians():
  rotation, _ = np.linalg.qr(draw((5, 5)))
  first, second = np.array([1, 2, 3, 4, 0.5]), np.array([2, 2, 0.1, 9, 0.0])
  a = moments(np.zeros(5), rotation @ np.diag(first) @ rotation.T)
  b = moments(np.arange(5), rotation @ np.diag(second) @ rotation.T)
  expected = 30 + np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
  np.testing.assert_allclose(frechet.distance(a, b), expected, rtol=1e-8)


def test_closed_form_in_two_dimensions():
  # tr (S1 S2)^(1/2) = sqrt(tr S1 S2 + 2 sqrt(det S1 S2)) for 2 x 2.
  s1, s2 = np.array([[2, 0.7], [0.7, 1]]), np.array([[1, -0.4], [-0.4, 3]])
  cross = np.sqrt(np.trace(s1 @ s2) + 2 * np.sqrt(np.linalg.det(s1 @ s2)))
  expected = np.trace(s1) + np.trace(s2) - 2 * cross
  found = frechet.distance(moments([1, 1], s1), moments([1, 1], s2))
  np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("counts", [(200, 150), (20, 15)], ids=["full", "deficient"])
def test_invariances(counts):
  x, y = draw((counts[0], 30)), 1 + 2 * draw((counts[1], 30), 1)
  rotation, _ = np.linalg.qr(draw((30, 30), 2))
  for measure in (
    frechet.distance_of_features,
    lambda a, b: frechet.distance(frechet.Moments.of(a), frechet.Moments.of(b)),
  ):
    value = measure(x, y)
    assert value > 0
    np.testing.assert_allclose(measure(y, x), value, rtol=1e-6)
    np.testing.assert_allclose(measure(x @ rotation, y @ rotation), value, rtol=1e-6)
    np.testing.assert_allclose(measure(x + 7, y + 7), value, rtol=1e-6)
    np.testing.assert_allclose(measure(3 * x, 3 * y), 9 * value, rtol=1e-6)
    assert abs(measure(x, x)) < 1e-5


def test_constant_features_have_a_distance():
  x, y = np.zeros((9, 4)), np.full((9, 4), 2.0)
  assert frechet.distance_of_features(x, y) == pytest.approx(16)
  found = frechet.distance(frechet.Moments.of(x), frechet.Moments.of(y))
  assert found == pytest.approx(16)


def test_streaming_equals_the_whole():
  # Large means: a float32 sum of squares, or raw moments, would be lost here.
  x = (1e4 + draw((256, 12))).astype(np.float32)
  parts = np.split(x, [1, 38, 102])
  for total in (
    frechet.Moments.stream(parts),
    frechet.Moments.of(parts[0][:0]) + frechet.Moments.of(x),
    frechet.Moments.of(x.reshape(16, 16, 12)),
  ):
    assert total.count == 256
    np.testing.assert_allclose(total.mean, x.mean(0, np.float64), rtol=1e-12)
    expected = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(total.covariance, expected, rtol=1e-9, atol=1e-12)


def test_refusals():
  with pytest.raises(ValueError, match="found 1"):
    _ = frechet.Moments.of(np.zeros((1, 3))).covariance
  with pytest.raises(ValueError, match="found"):
    frechet.distance_of_features(np.zeros((1, 3)), np.zeros((2, 3)))
  with annotations.ignored(), pytest.raises(ValueError, match="dimensions"):
    frechet.distance_of_features(np.zeros((3, 3)), np.zeros((3, 4)))


def test_divisor():
  rng = np.random.default_rng(0)
  x, y = rng.standard_normal((20, 3)), rng.standard_normal((30, 3))
  unbiased, biased = (frechet.terms(x, y, ddof=ddof) for ddof in (1, 0))
  assert unbiased.means == biased.means
  expected = x.var(0).sum() + y.var(0).sum()
  np.testing.assert_allclose(biased.traces, expected, rtol=1e-12)
  assert frechet.distance_of_features(x, y, ddof=0) == biased.distance


def test_extrapolation_takes_the_bias_away():
  """Equal laws: the distance of n features is all bias, about c / n."""
  found = []
  for seed in range(20):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 400, 8))
    found.append(frechet.infinity(x, y, seed=seed))
  plain = np.mean([line.distances[-1] for line in found])
  values = np.array([line.value for line in found])
  assert plain > 0.03 and abs(values.mean()) < 0.3 * plain
  assert found[0].slope > 0
  # The line's error is about how far values scatter; draws share their features.
  assert np.mean([line.error for line in found]) < 3 * values.std()


def test_sizes_of_an_extrapolation():
  x = np.random.default_rng(0).standard_normal((30, 3))
  line = frechet.infinity(x, x[::-1], [10, 20])
  assert np.isnan(line.error) and len(line.distances) == 2
  first = frechet.distance_of_features(x[:10], x[::-1][:10])
  assert line.distances[0] == first
  for sizes in ([10], [1, 5], [10, 31]):
    with pytest.raises(ValueError, match="expected two or more"):
      frechet.infinity(x, x, sizes)
