import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import DiscreteSchedule, Level
from vdm_jax.errors import UserError

LOGSNR = jnp.linspace(-20, 20, 41)


def level(logsnr):
  logsnr = jnp.asarray(logsnr, jnp.float32)
  return Level(logsnr, jnp.zeros_like(logsnr))


@pytest.fixture
def data():
  keys = jax.random.split(jax.random.key(0), 3)
  return [jax.random.normal(key, (41, 2, 3, 3, 1)) for key in keys]


def test_variance_is_preserved():
  alpha, sigma = process.alpha(LOGSNR), process.sigma(LOGSNR)
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-6)
  np.testing.assert_allclose(2 * jnp.log(alpha / sigma), LOGSNR, atol=1e-5)


def test_levels_broadcast_from_the_left(data):
  x, eps, _ = (a[:2] for a in data)
  per_frame = level([[-1.0, 0.5], [2.0, 3.0]])
  z = process.forward(x, eps, per_frame)
  for b in range(2):
    for t in range(2):
      one = process.forward(x[b, t], eps[b, t], level(per_frame.logsnr[b, t]))
      np.testing.assert_allclose(z[b, t], one, rtol=1e-6)


@pytest.mark.parametrize(
  "kind,limit", [("x", 0), ("eps", 1e-2), ("v", 3e-6), ("flow", 3e-6)]
)
def test_targets_give_back_x_at_extreme_levels(data, kind, limit):
  x, eps, _ = data
  z = process.forward(x, eps, level(LOGSNR))
  target = process.target(kind, x, eps, level(LOGSNR))
  found = process.to_x(kind, target, z, level(LOGSNR))
  assert jnp.abs(found - x).max() <= limit


@pytest.mark.parametrize("kind", ["x", "eps", "v", "flow"])
def test_conversions_are_inverse(data, kind):
  x, _, z = data
  middle = level(jnp.linspace(-8, 8, 41))
  value = process.from_x(kind, x, z, middle)
  np.testing.assert_allclose(process.to_x(kind, value, z, middle), x, atol=5e-4)


def test_output_may_be_bfloat16_and_learn_its_variance(data):
  x, eps, _ = data
  z = process.forward(x, eps, level(LOGSNR))
  output = jnp.concatenate([eps, jnp.full_like(eps, -1.0)], -1).astype(jnp.bfloat16)
  estimate = process.from_output("eps", output, z, level(LOGSNR))
  assert estimate.x.dtype == jnp.float32 and estimate.x.shape == x.shape
  assert (estimate.gamma == 0).all()
  assert process.from_output("v", eps, z, level(LOGSNR)).gamma is None
  with pytest.raises(UserError, match="1 or 2 channels, found 3"):
    process.from_output("eps", jnp.zeros((41, 2, 3, 3, 3)), z, level(LOGSNR))
  with pytest.raises(UserError, match="'noise'"):
    process.from_output("noise", eps, z, level(LOGSNR))


def gaussian_step(t, s, gamma=0.0):
  """Of z_s = a z_t + b x + std n: (a, b, variance)."""
  one, zero = jnp.ones(()), jnp.zeros(())
  a, log_variance = process.posterior(one, zero, level(t), level(s), gamma)
  b, _ = process.posterior(zero, one, level(t), level(s), gamma)
  return np.array([a, b, jnp.exp(log_variance)], np.float64)


def test_posterior_keeps_the_marginal():
  """z_t ~ q(z_t|x), then q(z_s|z_t,x): z_s ~ q(z_s|x)."""
  for t, s in [(-20.0, -19.5), (-3.0, 1.0), (0.0, 0.01), (5.0, 20.0), (-2.0, 250.0)]:
    a, b, variance = gaussian_step(t, s)
    alpha_t, sigma_t = (float(f(jnp.array(t))) for f in (process.alpha, process.sigma))
    alpha_s, sigma_s = (float(f(jnp.array(s))) for f in (process.alpha, process.sigma))
    assert a * alpha_t + b == pytest.approx(alpha_s, rel=1e-5)
    assert a**2 * sigma_t**2 + variance == pytest.approx(
      sigma_s**2, rel=1e-5, abs=1e-30
    )


def test_posteriors_compose():
  """From t to s in one step or by way of a level between: the same law given x."""
  a1, b1, v1 = gaussian_step(-2.0, 0.5)
  a2, b2, v2 = gaussian_step(0.5, 3.0)
  whole = gaussian_step(-2.0, 3.0)
  composed = [a2 * a1, a2 * b1 + b2, a2**2 * v1 + v2]
  np.testing.assert_allclose(composed, whole, rtol=1e-5)


def test_posterior_is_bayes_rule():
  """q(z_s|z_t,x) is proportional to q(z_t|z_s) q(z_s|x)."""
  t, s, x, z_t = -1.0, 0.7, 0.3, 0.9
  z_s = jnp.linspace(-5, 5, 20001)
  signal = process.transition(z_s, jnp.zeros_like(z_s), level(s), level(t))
  noise = process.transition(jnp.zeros(()), jnp.ones(()), level(s), level(t))
  prior = (z_s - process.alpha(jnp.array(s)) * x) / process.sigma(jnp.array(s))
  density = jnp.exp(-(((z_t - signal) / noise) ** 2 + prior**2) / 2)
  density /= density.sum()
  mean, log_variance = process.posterior(
    jnp.array(z_t), jnp.array(x), level(t), level(s)
  )
  assert mean == pytest.approx(float((density * z_s).sum()), abs=1e-4)
  variance = (density * (z_s - mean) ** 2).sum()
  assert jnp.exp(log_variance) == pytest.approx(float(variance), rel=1e-3)


def test_transition_keeps_the_marginal():
  t, s, x = level(-1.0), level(2.0), jnp.ones(())
  mean = process.transition(process.alpha(s.logsnr) * x, jnp.zeros(()), s, t)
  assert mean == pytest.approx(float(process.alpha(t.logsnr)), rel=1e-6)
  kept = process.transition(process.sigma(s.logsnr) * x, jnp.zeros(()), s, t)
  drawn = process.transition(jnp.zeros(()), jnp.ones(()), s, t)
  assert kept**2 + drawn**2 == pytest.approx(
    float(process.sigma(t.logsnr)) ** 2, rel=1e-6
  )


def test_step_to_clean_data_returns_x_without_nan():
  schedule = DiscreteSchedule.linear(1000)
  for step in (0, 999):
    t, s = schedule.level(jnp.array(step)), schedule.level(jnp.array(-1))
    for gamma in (0.0, 1.0):
      mean, log_variance = process.posterior(
        jnp.array([3.0]), jnp.array([0.25]), t, s, gamma
      )
      assert mean == 0.25 and jnp.isfinite(log_variance).all()


def test_gradients_are_finite_everywhere():
  def total(logsnr):
    t, s = level(logsnr[0]), level(logsnr[1])
    mean, log_variance = process.posterior(jnp.array(0.4), jnp.array(-1.0), t, s, 0.3)
    return mean + log_variance

  for pair in [(-20.0, -19.99), (0.0, 0.6931), (-20.0, 20.0), (10.0, 250.0)]:
    assert jnp.isfinite(jax.grad(total)(jnp.array(pair))).all()
