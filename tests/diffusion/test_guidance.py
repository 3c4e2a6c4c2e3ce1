import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax import pixels
from vdm_jax.diffusion import guidance, process, sampler
from vdm_jax.diffusion.process import Estimate
from vdm_jax.diffusion.schedule import CosineSchedule, Level
from vdm_jax.errors import UserError

LEVEL = Level(jnp.array([-1.0, 2.0]), jnp.zeros(2))
GIVEN = jnp.array([[True, False, False], [False, True, True]])


def draws(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def constant(x):
  return lambda z, level: Estimate(jnp.asarray(x))


def mixing(z, level):
  """A denoiser whose frames depend on one another."""
  return Estimate(jnp.tanh(z + 0.5 * jnp.roll(z, 1, axis=1)))


def test_classifier_free_convention():
  def guide(weight):
    return guidance.classifier_free(constant(3.0), constant(1.0), weight)(0, LEVEL).x

  assert guide(0.0) == 3.0  # scale 1: no guidance
  assert guide(-1.0) == 1.0  # scale 0: unconditional
  assert guide(1.0) == 5.0  # scale 2


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_classifier_free_is_the_same_in_every_space(kind):
  z, c, u = (draws(i, 2, 3, 4) for i in range(3))
  guided = guidance.classifier_free(constant(c), constant(u), 0.7)(z, LEVEL).x
  c, u = (process.from_x(kind, a, z, LEVEL) for a in (c, u))
  same = process.to_x(kind, 1.7 * c - 0.7 * u, z, LEVEL)
  np.testing.assert_allclose(guided, same, atol=2e-5)


@pytest.mark.parametrize("level", [LEVEL, Level(jnp.array(0.5), jnp.array(0.3))])
def test_classifier_free_with_one_call(level):
  z, c, u = (draws(i, 2, 3, 4) for i in range(3))
  calls = []

  def both(z, level):
    calls.append(z.shape)
    added = jnp.stack([c, u], axis=1).reshape(z.shape)
    noise = process.expand(jnp.broadcast_to(level.logsnr, z.shape[:1]), z.ndim)
    return Estimate(z + added + noise)

  def one(added):
    return lambda z, level: Estimate(
      z + added + process.expand(jnp.broadcast_to(level.logsnr, (2,)), z.ndim)
    )

  expected = guidance.classifier_free(one(c), one(u), 0.7)(z, level).x
  found = guidance.classifier_free_paired(both, 0.7)(z, level).x
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert calls == [(4, 3, 4)]


@pytest.mark.parametrize("rule,power", [("constant", 1), ("over_alpha_squared", -1)])
def test_reconstruction_is_the_gradient(rule, power):
  """Against the gradient of the sum of squares of every sample on its own."""
  z, x_given = draws(1, 2, 3, 4), draws(2, 2, 3, 4)
  guided = guidance.reconstruction(mixing, x_given, GIVEN, 2.0, rule)(z, LEVEL).x
  plain = mixing(z, LEVEL).x
  for b in range(2):

    def squares(z, b=b):
      error = (mixing(z[None], LEVEL).x[0] - x_given[b]) * GIVEN[b][:, None]
      return jnp.sum(error**2)

    gradient = jax.grad(squares)(z[b])
    alpha = process.alpha(LEVEL.logsnr[b])
    expected = plain[b] - 2.0 / 2 * alpha**power * gradient * ~GIVEN[b][:, None]
    np.testing.assert_allclose(guided[b], expected, rtol=1e-4, atol=1e-6)
  with pytest.raises(UserError, match="'sqrt'"):
    guidance.reconstruction(mixing, x_given, GIVEN, 2.0, "sqrt")


def test_super_resolution_moves_towards_the_low_resolution():
  def down(x):
    return x.reshape(2, 3, 2, 2).mean(-1)

  z, low = draws(1, 2, 3, 4), draws(2, 2, 3, 2)
  plain = mixing(z, LEVEL).x

  def guide(weight):
    observed = guidance.Observation(down, low, weight)
    return guidance.toward(mixing, [observed])(z, LEVEL).x

  guided = guide(0.5)
  before, after = (jnp.sum((down(x) - low) ** 2) for x in (plain, guided))
  assert after < before
  np.testing.assert_array_equal(guide(0.0), plain)


def test_given_frames_and_a_low_resolution_video_guide_together():
  """The sum of both moves, with one backward pass; given frames are left alone."""
  z, x_given, low = (
    draws(1, 2, 3, 4, 4, 1),
    draws(2, 2, 3, 4, 4, 1),
    draws(3, 2, 3, 2, 2, 1),
  )
  known = jnp.array([[True, False, True], [True, False, True]])
  frames = guidance.given_frames(x_given, GIVEN, 2.0)
  small = guidance.low_resolution(low, known, 4.0)
  plain = mixing(z, LEVEL).x
  moves = [
    guidance.toward(mixing, of, fixed=GIVEN)(z, LEVEL).x - plain
    for of in ([frames], [small], [frames, small])
  ]
  np.testing.assert_allclose(moves[2], moves[0] + moves[1], atol=1e-5)
  assert not np.asarray(moves[2])[np.asarray(GIVEN)].any() and moves[1].any()

  def squares(z):
    seen = pixels.average(mixing(z, LEVEL).x, 2, 2)
    return jnp.sum(jnp.where(known[..., None, None, None], seen - low, 0.0) ** 2)

  alpha = process.expand(process.alpha(LEVEL.logsnr), 5)
  free = guidance.toward(mixing, [small])(z, LEVEL).x - plain
  np.testing.assert_allclose(free, -2.0 * alpha * jax.grad(squares)(z), atol=1e-5)
  blocks = np.asarray(z).reshape(2, 3, 2, 2, 2, 2, 1).mean((3, 5))
  np.testing.assert_allclose(pixels.average(z, 2, 2), blocks, atol=1e-6)


def test_guidance_accepts_a_bfloat16_network():
  def network(z, level):
    return process.from_output("x", mixing(z.astype(jnp.bfloat16), level).x, z, level)

  z = draws(1, 2, 3, 4)
  for guided in (
    guidance.reconstruction(network, z, GIVEN, 1.0),
    guidance.toward(
      network, [guidance.Observation(lambda x: x[..., ::2], z[..., ::2], 1.0)]
    ),
  ):
    assert guided(z, LEVEL).x.dtype == jnp.float32


@pytest.mark.parametrize("how", ["replacement", "pinned"])
def test_given_frames_follow_the_forward_process(gaussian, how):
  """At every network call their law is q(z | x^a)."""
  x_given = jnp.full((20000, 2), 0.7)
  given = jnp.array([[True, False]])
  levels = CosineSchedule().grid(4)
  z = draws(3, 20000, 2)
  denoiser, hook = gaussian(0.5), None
  if how == "replacement":
    hook = guidance.replacement(x_given, given)
  else:
    denoiser = guidance.pinned(denoiser, x_given, given, gamma=1.0)
    z = jnp.where(given, process.forward(x_given, z, levels[0]), z)
  seen = []

  def watched(z, level):
    jax.debug.callback(
      lambda logsnr, mean, std: seen.append((logsnr, mean, std)),
      level.logsnr,
      z[:, 0].mean(),
      z[:, 0].std(),
      ordered=True,
    )
    return denoiser(z, level)

  sampler.sample(
    watched, sampler.Ancestral(1.0), levels, z, key=jax.random.key(5), constrain=hook
  )
  assert len(seen) == 4
  for logsnr, mean, std in seen:
    alpha, sigma = process.alpha(logsnr), process.sigma(logsnr)
    assert float(mean) == pytest.approx(0.7 * float(alpha), abs=4 / 140)
    assert float(std) == pytest.approx(float(sigma), rel=4 / 200)


def test_pinned_and_pasting_keep_given_frames():
  z, x_given = draws(1, 2, 3, 4), draws(2, 2, 3, 4)
  where = GIVEN[..., None]
  estimate = guidance.pinned(mixing, x_given, GIVEN, gamma=0.3)(z, LEVEL)
  np.testing.assert_array_equal(
    estimate.x, jnp.where(where, x_given, mixing(z, LEVEL).x)
  )
  np.testing.assert_allclose(
    jnp.broadcast_to(estimate.gamma, z.shape),
    jnp.broadcast_to(jnp.where(where, 0.0, 0.3), z.shape),
  )
  pasted = guidance.pasting(x_given, GIVEN)(z, LEVEL, None)
  np.testing.assert_array_equal(pasted, jnp.where(where, x_given, z))
  with pytest.raises(UserError, match="key"):
    guidance.replacement(x_given, GIVEN)(z, LEVEL, None)


def test_thresholds():
  x = jnp.stack([jnp.linspace(-0.5, 0.5, 11), jnp.linspace(-4, 4, 11)])
  static = guidance.threshold_static(constant(x), -2.0, 2.0)(x, LEVEL).x
  assert jnp.abs(static).max() == 2.0
  dynamic = guidance.threshold_dynamic(constant(x), 0.9)(x, LEVEL).x
  np.testing.assert_array_equal(dynamic[0], x[0])
  assert jnp.abs(dynamic[1]).max() == 1.0
  # Inside of the threshold the example is scaled as a whole.
  np.testing.assert_allclose(jnp.diff(dynamic[1, 1:10]), 0.2, rtol=0.01)
  for percentile in (95, 0.0):
    with pytest.raises(UserError, match="fraction"):
      guidance.threshold_dynamic(constant(x), percentile)
