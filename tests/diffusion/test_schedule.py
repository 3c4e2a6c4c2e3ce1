import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax.diffusion import process
from vdm_jax.diffusion.respacing import retained_steps
from vdm_jax.diffusion.schedule import (
  CosineSchedule,
  DiscreteSchedule,
  StraightSchedule,
  network_time,
  stratified_times,
)
from vdm_jax.errors import UserError

COSINES = [
  CosineSchedule(),
  CosineSchedule(shift=-1.386),
  CosineSchedule(logsnr_min=-10, logsnr_max=15, shift=2.0),
]
CONTINUOUS = [
  *COSINES,
  StraightSchedule(),
  StraightSchedule(logsnr_min=-10, logsnr_max=15, shift=2.0),
]


@pytest.mark.parametrize("schedule", CONTINUOUS)
def test_schedules_keep_their_ends_and_decrease(schedule):
  t = jnp.linspace(0, 1, 1001)
  logsnr = schedule.logsnr(t)
  assert (jnp.diff(logsnr) < 0).all()
  np.testing.assert_allclose(
    logsnr[jnp.array([0, -1])], [schedule.logsnr_max, schedule.logsnr_min], rtol=1e-6
  )


@pytest.mark.parametrize("schedule", CONTINUOUS)
def test_inverse_and_derivative(schedule):
  t = jnp.linspace(0, 1, 101)
  np.testing.assert_allclose(schedule.inverse(schedule.logsnr(t)), t, atol=1e-6)
  slopes = jax.vmap(jax.grad(schedule.logsnr))(t)
  np.testing.assert_allclose(schedule.derivative(t), slopes, rtol=1e-4)


def test_cosine_is_a_cosine():
  """Without a shift, alpha is the cosine of an angle that is linear in t."""
  angle = np.arccos(
    np.asarray(process.alpha(CosineSchedule().logsnr(jnp.linspace(0.1, 0.9, 9))))
  )
  np.testing.assert_allclose(np.diff(angle, 2), 0, atol=1e-6)


def test_straight_is_a_straight_line():
  """The share of noise in z / (alpha + sigma) is linear in t."""
  logsnr = StraightSchedule().logsnr(jnp.linspace(0, 1, 11))
  alpha, sigma = process.alpha(logsnr), process.sigma(logsnr)
  share = sigma / (alpha + sigma)
  np.testing.assert_allclose(share, np.linspace(0, 1, 11), atol=1e-4)
  np.testing.assert_allclose(np.diff(share, 2), 0, atol=1e-6)


def test_network_time_inverts_the_cosine_schedule():
  t = jnp.linspace(0, 1, 11)
  np.testing.assert_allclose(
    network_time(CosineSchedule().logsnr(t)), 1000 * t, atol=0.03
  )
  assert network_time(jnp.array(250.0)) == network_time(jnp.array(20.0))


def test_cosine_grid():
  grid = CosineSchedule().grid(4)
  expected = CosineSchedule().level(jnp.array([1, 0.75, 0.5, 0.25, 0]))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grid, expected)
  for steps in (None, 0, "250"):
    with pytest.raises(UserError, match="steps"):
      CosineSchedule().grid(steps)


def test_levels_of_any_shape():
  for schedule in (CosineSchedule(), DiscreteSchedule.cosine(10)):
    for shape in ((), (3,), (3, 2)):
      level = schedule.sample(jnp.full(shape, 0.3))
      assert level.logsnr.shape == level.time.shape == shape
      assert level.logsnr.dtype == level.time.dtype == jnp.float32


def test_discrete_sample_floors_and_is_uniform():
  schedule = DiscreteSchedule.cosine(4, rescale_time=False)
  u = (jnp.arange(400) + 0.5) / 400
  steps, counts = np.unique(schedule.sample(u).time, return_counts=True)
  assert steps.tolist() == [0, 1, 2, 3] and counts.tolist() == [100] * 4
  almost_one = jnp.nextafter(jnp.float32(1), jnp.float32(0))
  assert DiscreteSchedule.cosine(4000).step(almost_one) == 3999


@pytest.mark.parametrize(
  "schedule", [DiscreteSchedule.linear(1000), DiscreteSchedule.cosine(1600)]
)
def test_discrete_levels_carry_the_betas(schedule):
  """The forward step from each level to the next has variance beta."""
  step = jnp.arange(schedule.num_steps)
  t, s = schedule.level(step), schedule.level(step - 1)
  drawn = process.transition(jnp.zeros(len(step)), jnp.ones(len(step)), s, t)
  # Log SNR is rounded to float32: 1e-6 of steps that can be as small as 0.004.
  np.testing.assert_allclose(drawn**2, schedule.betas, rtol=5e-4)


def test_discrete_grid_ends_clean():
  grid = DiscreteSchedule.linear(100).grid()
  assert grid.logsnr.shape == (101,)
  assert (jnp.diff(grid.logsnr) > 0).all() and jnp.isfinite(grid.logsnr).all()
  assert process.alpha(grid.logsnr[-1]) == 1.0
  assert process.sigma(grid.logsnr[-1]) == 0.0
  assert grid.time[:-1].tolist() == [10.0 * i for i in range(99, -1, -1)]


def test_respaced_grid_keeps_levels_and_times():
  schedule = DiscreteSchedule.linear(1000)
  full, short = schedule.grid(), schedule.grid(5)
  kept = jnp.array([999, 749, 500, 250, 0])
  assert short.time[:-1].tolist() == kept.tolist()
  np.testing.assert_array_equal(short.logsnr[:-1], full.logsnr[999 - kept])
  np.testing.assert_array_equal(schedule.grid("ddim4").time[:-1], [750, 500, 250, 0])


def test_time_rescaling():
  assert DiscreteSchedule.linear(4000).level(jnp.array(3999)).time == 999.75
  raw = DiscreteSchedule.cosine(1600, rescale_time=False)
  assert raw.level(jnp.array(1599)).time == 1599
  assert raw.respace(2).level(jnp.array(1)).time == 1599


@pytest.mark.parametrize(
  "spec", ["ddim300", "33", "0", "-1", "ten", "10,,", "ddim", "20,20", "1.5"]
)
def test_bad_respacing(spec):
  with pytest.raises(UserError, match="respacing"):
    retained_steps(32, spec)


def test_bad_schedules():
  with pytest.raises(UserError, match="more than 20"):
    DiscreteSchedule.linear(10)
  with pytest.raises(UserError, match="between 0 and 1"):
    DiscreteSchedule.from_betas([0.1, 1.0])
  with pytest.raises(UserError, match="between 0 and 1"):
    DiscreteSchedule.from_betas([])
  with pytest.raises(UserError, match="logsnr_min"):
    CosineSchedule(logsnr_min=3, logsnr_max=3)


def test_stratified_times_fill_their_strata():
  times = np.sort(stratified_times(jnp.array(0.83), 16))
  np.testing.assert_allclose(np.diff(times), 1 / 16, atol=1e-6)
  assert 0 <= times[0] < 1 / 16 and times[-1] < 1
