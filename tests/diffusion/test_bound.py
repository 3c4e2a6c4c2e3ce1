import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vdm_jax.diffusion import bound, process
from vdm_jax.diffusion.process import Estimate
from vdm_jax.diffusion.schedule import (
  CosineSchedule,
  DiscreteSchedule,
  StraightSchedule,
  stratified_times,
)
from vdm_jax.errors import UserError


def test_gaussian_kl_is_the_integral():
  a = np.linspace(-12, 12, 200001)
  p, q = scipy.stats.norm(0.3, 0.5), scipy.stats.norm(-0.2, 1.5)
  expected = np.sum(p.pdf(a) * (p.logpdf(a) - q.logpdf(a))) * (a[1] - a[0])
  found = bound.gaussian_kl(0.3, 2 * jnp.log(0.5), -0.2, 2 * jnp.log(1.5))
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_tails_are_rounded_like_the_codes_that_published_bounds():
  """Float32 has steps of 6e-8 there: a tanh that is off by a few shifts the mean."""
  x = np.random.default_rng(0).uniform(-0.9, 0.9, 100_000).astype(np.float32)
  log_scale = np.float32(math.log(0.1))

  def cdf(a):
    a = np.float32(math.sqrt(2 / math.pi)) * (a + np.float32(0.044715) * a**3)
    tanh = np.tanh(a.astype(np.float64)).astype(np.float32)
    return np.float32(0.5) * (1 + tanh)

  for mean in (0.0, 0.3):
    a = (x - np.float32(mean) + np.float32([[1 / 255], [-1 / 255]])) / np.exp(log_scale)
    upper, lower = cdf(a)
    expected = np.log(np.maximum(upper - lower, np.float32(1e-12)))
    found = bound.discretised_gaussian(x, mean, log_scale)
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=1e-5)


def test_discretised_gaussian_is_a_distribution():
  values = jnp.arange(256) / 127.5 - 1
  for mean, std in [(0.1, 0.3), (-0.98, 0.05), (1.3, 0.2)]:
    log_p = bound.discretised_gaussian(values, jnp.array(mean), jnp.log(std))
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1, abs=1e-4)
    normal = scipy.stats.norm(mean, std)
    edges = np.concatenate([[-np.inf], (np.asarray(values[1:]) - 1 / 255), [np.inf]])
    np.testing.assert_allclose(jnp.exp(log_p), np.diff(normal.cdf(edges)), atol=3e-4)


@pytest.mark.parametrize("kind", [CosineSchedule, StraightSchedule])
@pytest.mark.parametrize("std", [0.3, 1.0])
def test_continuous_bound_of_gaussian_data(gaussian, std, kind):
  """Diffusion: 1/2 log((1 + SNR_max s^2) / (1 + SNR_min s^2)). With the prior and a
  Gaussian decoder the bound is tight: the entropy of the data.
  """
  # Narrower than the default: fewer samples for the same accuracy.
  schedule = kind(logsnr_min=-8.0, logsnr_max=8.0)
  shape = (2048, 512)
  keys = jax.random.split(jax.random.key(2), 3)
  x = std * jax.random.normal(keys[0], shape)
  eps, eps_0 = (jax.random.normal(key, shape) for key in keys[1:])
  t = stratified_times(jnp.array(0.4), shape[0])
  run = functools.partial(
    bound.continuous_bound, gaussian(std), schedule, where=None, normalise="all"
  )
  found = jax.jit(run)(x, t, eps, eps_0)
  ends = [np.log1p(np.exp(logsnr) * std**2) for logsnr in (8.0, -8.0)]
  expected = 0.5 * (ends[0] - ends[1]) / np.log(2)
  assert float(found.diffusion.mean()) == pytest.approx(expected, rel=0.02)
  decoder = scipy.stats.norm(0, np.exp(-4.0)).entropy() / np.log(2)
  entropy = scipy.stats.norm(0, std).entropy() / np.log(2)
  total = float(found.prior.mean()) + expected + decoder
  assert total == pytest.approx(entropy, abs=3e-3)
  np.testing.assert_allclose(
    found.total, found.prior + found.reconstruction + found.diffusion, rtol=1e-6
  )


SCHEDULE = DiscreteSchedule.linear(1000).respace(20)


def discrete_bound(denoiser, x, **kwargs):
  kwargs = {"where": None, "normalise": "all", "key": jax.random.key(3)} | kwargs
  run = functools.partial(bound.discrete_bound, denoiser, SCHEDULE, **kwargs)
  return jax.jit(run)(x)


def video(batch):
  return jax.random.normal(jax.random.key(4), (batch, 4, 8, 8, 1))


def test_discrete_bound_of_gaussian_data(gaussian):
  """For unit variance and gamma 1 the reverse process is exact, whatever the steps.

  All terms but the decoder's then add up to KL(q(z_0 | x) || N(0, 1)), whose mean is
  1/2 log(1 / beta_0). A smaller variance is not exact, nor is a wrong denoiser.
  """

  def without_decoder(std, gamma):
    found = discrete_bound(gaussian(std), video(256), gamma=gamma)
    assert found.steps.shape == (256, 20) and (found.steps >= 0).all()
    np.testing.assert_allclose(found.total, found.steps.sum(1) + found.prior, rtol=1e-6)
    return float(found.total.mean() - found.steps[:, -1].mean())

  expected = -0.5 * np.log2(SCHEDULE.betas[0])
  assert without_decoder(1.0, 1.0) == pytest.approx(expected, rel=0.01)
  assert without_decoder(1.0, 0.0) > 1.1 * expected
  assert without_decoder(0.5, 1.0) > 1.02 * expected


def test_perfect_estimates_leave_only_the_decoder():
  x = 0.4 * video(2)
  found = discrete_bound(lambda z, level: Estimate(x), x)
  np.testing.assert_allclose(found.steps[:, :-1], 0, atol=1e-6)
  assert (found.steps[:, -1] > 0).all() and (found.x_mse == 0).all()


def test_subset_of_steps_in_any_order(gaussian):
  x = video(2)
  steps = jnp.array([[15, 3, 0], [0, 19, 7]])
  noise = jax.random.normal(jax.random.key(5), (3, *x.shape))
  found = discrete_bound(gaussian(0.4), x, steps=steps, noise=noise)
  for b, k in ((0, 1), (1, 0), (1, 2)):
    alone = discrete_bound(
      gaussian(0.4),
      x[b : b + 1],
      steps=steps[b, k][None],
      noise=noise[k : k + 1, b : b + 1],
    )
    np.testing.assert_allclose(found.steps[b, k], alone.steps[0, 0], rtol=1e-4)
    np.testing.assert_allclose(found.eps_mse[b, k], alone.eps_mse[0, 0], rtol=1e-4)


def test_masked_frames_count_as_zeros(gaussian):
  x = video(2)
  where = jnp.array([[True, True, False, False], [True] * 4])
  noise = jax.random.normal(jax.random.key(5), (20, *x.shape))
  half = discrete_bound(gaussian(0.4), x, noise=noise, where=where)
  first = discrete_bound(gaussian(0.4), x[:, :2], noise=noise[:, :, :2])
  np.testing.assert_allclose(half.total[0], first.total[0] / 2, rtol=1e-4)


@pytest.mark.parametrize("step", [0, 1, 12])
def test_learned_variance(gaussian, step):
  """gamma is trained, the mean is not."""
  x = video(4)
  steps = jnp.full(4, step)
  level = SCHEDULE.level(steps)
  z = process.forward(x, jax.random.normal(jax.random.key(6), x.shape), level)
  estimate = gaussian(0.4)(z, level)

  @jax.jit
  def term(gamma, x_hat):
    learned = Estimate(x_hat, jnp.full_like(x_hat, gamma))
    return bound.learned_variance_loss(
      SCHEDULE, steps, x, z, learned, where=None, normalise="all"
    ).mean

  by_gamma, by_x = jax.jit(jax.grad(term, (0, 1)))(0.5, estimate.x)
  assert jnp.isfinite(by_gamma) and by_gamma != 0
  assert (by_x == 0).all()
  # In bits times N / 1000.
  fixed = jax.jit(functools.partial(bound.step_bits, SCHEDULE))(steps, x, z, estimate)
  np.testing.assert_allclose(term(0.0, estimate.x), 0.02 * fixed.mean(), rtol=1e-4)
  with pytest.raises(UserError, match="second half"):
    bound.learned_variance_loss(
      SCHEDULE, steps, x, z, estimate, where=None, normalise="all"
    )


def test_one_step_is_refused():
  with pytest.raises(UserError, match="at least two"):
    bound.step_bits(
      SCHEDULE.respace(1), jnp.array(0), jnp.zeros(1), jnp.zeros(1), Estimate(0.0)
    )
