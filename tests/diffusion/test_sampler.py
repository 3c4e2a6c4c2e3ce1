import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import annotations
from vdm_jax.diffusion import guidance, process, sampler
from vdm_jax.diffusion.process import Estimate
from vdm_jax.diffusion.schedule import (
  CosineSchedule,
  DiscreteSchedule,
  StraightSchedule,
)
from vdm_jax.errors import UserError

RULES = [
  sampler.Ancestral(0.3),
  sampler.Ddim(),
  sampler.Ddim(eta=0.7),
  sampler.DpmSolverPP2M(),
  sampler.LangevinCorrector(gamma=0.1, delta=0.1),
  sampler.Resample(sampler.Ancestral(1.0), rounds=2),
]
GRIDS = [CosineSchedule().grid(6), DiscreteSchedule.linear(1000).grid(6)]
SHAPE = (3, 2, 2, 2, 1)


def start(batch=3):
  return jax.random.normal(jax.random.key(0), (batch, *SHAPE[1:]))


def draws(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def sample(*args, **kwargs):
  """`sampler.sample` inside jit: faster to compile than one operation at a time."""
  return jax.jit(lambda: sampler.sample(*args, **kwargs))()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_jit_finite_differentiable_and_bfloat16(gaussian, rule):
  def denoiser(z, level):
    # A network that computes in bfloat16 and predicts v.
    v = process.from_x("v", gaussian(0.5)(z, level).x, z, level)
    return process.from_output("v", v.astype(jnp.bfloat16), z, level)

  @jax.jit
  def run(z):
    # The discrete schedule: its last level has no noise at all.
    return sampler.sample(denoiser, rule, GRIDS[1], z, key=jax.random.key(1)).x

  value = run(start())
  assert value.shape == SHAPE and value.dtype == jnp.float32
  gradient = jax.jit(jax.grad(lambda z: (run(z) ** 2).sum()))(start())
  assert jnp.isfinite(value).all() and jnp.isfinite(gradient).all()
  assert (gradient != 0).any()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_network_calls_are_in_order(rule):
  """The levels of the calls; each N, or 2 N - 1 with a corrector, R N resampled."""
  seen = []

  def denoiser(z, level):
    jax.debug.callback(lambda a: seen.append(float(a)), level.logsnr, ordered=True)
    return Estimate(0 * z)

  grid = GRIDS[0]
  sample(denoiser, rule, grid, start(), key=jax.random.key(1))
  levels = [float(a) for a in grid.logsnr[:-1]]
  if isinstance(rule, sampler.LangevinCorrector):
    levels = [levels[0], *(a for a in levels[1:] for _ in range(2))]
  if isinstance(rule, sampler.Resample):
    levels = [a for a in levels for _ in range(2)]
  np.testing.assert_allclose(seen, levels, rtol=1e-6)


def test_ddim_with_eta_one_is_ancestral(gaussian):
  for grid in GRIDS:
    noise = draws(2, 6, *SHAPE)
    results = [
      sample(gaussian(0.5), rule, grid, start(), noise=noise, final=final).x
      for rule in (sampler.Ddim(1.0), sampler.Ancestral(0.0))
      for final in ("estimate", "state")
    ]
    np.testing.assert_allclose(results[0], results[2], atol=2e-5)
    np.testing.assert_allclose(results[1], results[3], atol=2e-5)


def test_estimate_decides_the_variance_if_it_has_one(gaussian):
  noise = draws(2, 6, *SHAPE)

  def learned(z, level):
    return gaussian(0.5)(z, level).replace(gamma=jnp.full_like(z, 0.25))

  found, expected = (
    sample(denoiser, rule, GRIDS[0], start(), noise=noise).x
    for denoiser, rule in (
      (learned, sampler.Ancestral(1.0)),
      (gaussian(0.5), sampler.Ancestral(0.25)),
    )
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_state_is_the_estimate_where_the_schedule_ends_clean(gaussian):
  for rule in (sampler.Ancestral(1.0), sampler.Ddim(0.5), sampler.DpmSolverPP2M()):
    estimate, state = (
      sample(
        gaussian(0.5), rule, GRIDS[1], start(), key=jax.random.key(1), final=final
      ).x
      for final in ("estimate", "state")
    )
    np.testing.assert_array_equal(estimate, state)


def test_solvers_agree_with_many_steps(gaussian):
  """DDIM and DPM-Solver++ solve the same equation: z_1 times the data's spread."""
  for rule, limit in ((sampler.Ddim(), 0.01), (sampler.DpmSolverPP2M(), 0.001)):
    grid = CosineSchedule().grid(200)
    found = sample(gaussian(0.5), rule, grid, start()).x
    np.testing.assert_allclose(found, 0.5 * start(), rtol=limit)


def test_a_step_along_the_straight_line_is_eulers():
  """With any denoiser: dw/dtau = flow, for w = z / (alpha + sigma)."""

  def denoise(z, level):
    return Estimate(jnp.tanh(z) * jnp.cos(level.logsnr / 8))

  grid = StraightSchedule().grid(9)
  found = sample(denoise, sampler.Ddim(), grid, start(), final="state").x
  alpha, sigma = process.alpha(grid.logsnr), process.sigma(grid.logsnr)
  tau = sigma / (alpha + sigma)
  w = start() / (alpha[0] + sigma[0])
  for n in range(9):
    z = w * (alpha[n] + sigma[n])
    flow = process.from_x("flow", denoise(z, grid[n]).x, z, grid[n])
    w = w + (tau[n + 1] - tau[n]) * flow
  np.testing.assert_allclose(found, w * (alpha[-1] + sigma[-1]), atol=2e-5)


def test_the_straight_line_leads_to_the_data(gaussian):
  found = sample(gaussian(0.5), sampler.Ddim(), StraightSchedule().grid(400), start()).x
  np.testing.assert_allclose(found, 0.5 * start(), rtol=0.01)


def test_a_sample_does_not_depend_on_its_batch(gaussian):
  rule, given = sampler.Ancestral(0.3), jnp.array([[True, False]])
  keys = jax.random.split(jax.random.key(7), 3)

  def run(index):
    z = start()[index]
    hook = guidance.replacement(jnp.ones_like(z), given)
    return sample(gaussian(0.5), rule, GRIDS[0], z, key=keys[index], constrain=hook).x

  whole = run(jnp.arange(3))
  np.testing.assert_allclose(run(jnp.array([2])), whole[2:], rtol=1e-5)
  np.testing.assert_allclose(
    run(jnp.array([2, 0])), whole[jnp.array([2, 0])], rtol=1e-5
  )
  assert not jnp.allclose(whole[0], whole[1])


def test_one_key_is_a_key_per_position(gaussian):
  def run(batch):
    return sample(
      gaussian(1.0),
      sampler.Ancestral(1.0),
      GRIDS[0],
      jnp.zeros((batch, 4)),
      key=jax.random.key(3),
    ).x

  small, large = run(2), run(5)
  np.testing.assert_allclose(small, large[:2], rtol=1e-5)
  assert len(np.unique(large)) == large.size


def test_random_draws_have_the_exact_law(gaussian):
  """For unit variance data and gamma 1 every state is N(0, 1), whatever N.

  Noise that is correlated between steps, examples or elements would show.
  """
  z = draws(11, 4000, 20)
  for rule in (sampler.Ancestral(1.0), sampler.Resample(sampler.Ancestral(1.0), 3)):
    final = sample(
      gaussian(1.0),
      rule,
      CosineSchedule().grid(5),
      z,
      key=jax.random.key(12),
      final="state",
    ).x
    bound = 4 / np.sqrt(2 * z.size)
    assert float(final.std()) == pytest.approx(1, abs=bound)
    assert float(final.mean()) == pytest.approx(0, abs=2 * bound)
    covariance = np.cov(np.asarray(final).T) - np.eye(20)
    assert np.abs(covariance).max() < 6 / np.sqrt(4000)


def test_trajectory_is_strided_from_the_end(gaussian):
  grid, rule, noise = (
    CosineSchedule().grid(7),
    sampler.Ancestral(0.3),
    draws(4, 7, *SHAPE),
  )

  def run(every, final="state"):
    return sample(
      gaussian(0.5),
      rule,
      grid,
      start(),
      noise=noise,
      trajectory_every=every,
      final=final,
    )

  full = run(1)
  assert full.trajectory.states.shape == (7, *SHAPE)
  np.testing.assert_array_equal(full.trajectory.states[-1], full.x)
  np.testing.assert_array_equal(full.trajectory.estimates[-1], run(1, "estimate").x)
  strided = run(3).trajectory
  np.testing.assert_allclose(
    strided.states, full.trajectory.states[jnp.array([0, 3, 6])]
  )
  np.testing.assert_allclose(strided.estimates, full.trajectory.estimates[::3])
  assert sample(gaussian(1.0), rule, grid, start(), noise=noise).trajectory is None


def test_levels_per_frame(gaussian):
  """A grid [N + 1, B, T] with equal levels is the plain grid."""
  grid, noise = GRIDS[0], draws(5, 11, *SHAPE)
  wide = jax.tree.map(lambda a: jnp.broadcast_to(a[:, None, None], (7, 3, 2)), grid)
  for rule in RULES[:5]:
    plain, framed = (
      sample(gaussian(0.5), rule, g, start(), noise=noise).x for g in (grid, wide)
    )
    np.testing.assert_allclose(plain, framed, rtol=1e-5, atol=1e-6)


def test_resampling_once_is_the_sampler_itself(gaussian):
  noise = draws(6, 6, *SHAPE)
  inner = sampler.Ancestral(0.0)
  once = sampler.Resample(inner, rounds=1)
  found = sample(gaussian(0.5), once, GRIDS[0], start(), noise=(noise, noise)).x
  expected = sample(gaussian(0.5), inner, GRIDS[0], start(), noise=noise).x
  np.testing.assert_array_equal(found, expected)


def test_resampling_renoises_by_beta():
  """From a known state: with all noise of the step zero, one round back."""
  schedule = DiscreteSchedule.linear(1000).respace(4)
  shape = (1, 1)
  back = jnp.zeros((8, *shape)).at[0].set(1.0)
  record = sample(
    lambda z, level: Estimate(jnp.zeros_like(z)),
    sampler.Resample(sampler.Ancestral(0.0), rounds=2),
    schedule.grid(),
    jnp.zeros(shape),
    noise=(jnp.zeros((8, *shape)), back),
    trajectory_every=1,
  ).trajectory
  np.testing.assert_allclose(record.states[0] ** 2, schedule.betas[-1], rtol=1e-4)


def test_noise_is_asked_for(gaussian):
  for rule in (RULES[0], RULES[2], RULES[4], RULES[5]):
    with pytest.raises(UserError, match="give a key"):
      sample(gaussian(0.5), rule, GRIDS[0], start())
  with annotations.ignored(), pytest.raises(UserError, match=r"jax.random.key"):
    sample(gaussian(0.5), RULES[0], GRIDS[0], start(), key=jax.random.PRNGKey(0))
  with annotations.ignored(), pytest.raises(UserError, match="3 keys"):
    keys = jax.random.split(jax.random.key(0), 2)
    sample(gaussian(0.5), RULES[0], GRIDS[0], start(), key=keys)


def test_settings_are_checked(gaussian):
  for make in (
    lambda: sampler.Ancestral(1.5),
    lambda: sampler.Ddim(-0.1),
    lambda: sampler.LangevinCorrector(gamma=2.0),
    lambda: sampler.Resample(sampler.DpmSolverPP2M(), 2),
    lambda: sampler.Resample(sampler.Ancestral(), 0),
    lambda: sample(gaussian(1.0), RULES[1], GRIDS[0], start(), final="mean"),
  ):
    with pytest.raises(UserError):
      make()
