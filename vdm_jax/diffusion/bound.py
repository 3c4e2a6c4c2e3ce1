"""Evidence lower bounds, in bits per dimension.

`discrete_bound` is for discrete schedules (Ho et al. 2020, eq. 5, with the decoder of
section 3.3; FDM evaluates with it), `continuous_bound` for continuous time (Kingma et
al. 2021, eq. 17; VDM, section 2). Data lie in [-1, 1] and are assumed to be 8-bit: 256
values, 2/255 apart.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from vdm_jax.diffusion import loss, process
from vdm_jax.diffusion import noise as noise_lib
from vdm_jax.diffusion.process import Denoiser, Estimate
from vdm_jax.diffusion.schedule import ContinuousSchedule, DiscreteSchedule, Level
from vdm_jax.errors import UserError

LOG2 = math.log(2.0)


class DiscreteBound(NamedTuple):
  """Terms of the bound, per example, at n visited steps.

  Attributes:
    total: sum of `prior` and `steps`: the bound if every step was visited.
    prior: KL of the noisiest level from a standard normal.
    steps: KL of each reverse step, or the decoder's term at step 0.
    x_mse: mean squared error of the estimate of x.
    eps_mse: mean squared error of the estimate of eps.
  """

  total: Float[Array, " b"]
  prior: Float[Array, " b"]
  steps: Float[Array, "b n"]
  x_mse: Float[Array, "b n"]
  eps_mse: Float[Array, "b n"]


class ContinuousBound(NamedTuple):
  """Terms of the bound, per example; `total` is their sum."""

  total: Float[Array, " b"]
  prior: Float[Array, " b"]
  reconstruction: Float[Array, " b"]
  diffusion: Float[Array, " b"]


def gaussian_kl(
  mean1: Float[ArrayLike, "..."],
  log_variance1: Float[ArrayLike, "..."],
  mean2: Float[ArrayLike, "..."],
  log_variance2: Float[ArrayLike, "..."],
) -> Float[Array, "..."]:
  """Computes KL(N(mean1, e^log_variance1) || N(mean2, e^log_variance2)) in nats."""
  log_ratio = log_variance1 - log_variance2
  squared = jnp.square(mean1 - mean2) * jnp.exp(-log_variance2)
  # expm1(a) - a: the two variances are often equal up to rounding.
  return 0.5 * (jnp.expm1(log_ratio) - log_ratio + squared)


def _tanh(a: jax.Array) -> jax.Array:
  """Computes tanh, correctly rounded where it is near 1.

  XLA's own tanh is off by a few units in the last place there, which is as much as the
  probability of a bin in the tails, whose logarithm is summed. PyTorch's is accurate.
  """
  # Clipping keeps an overflow out of the gradient; tanh(20) is 1 in float64 too.
  e = jnp.exp(-2.0 * jnp.minimum(jnp.abs(a), 20.0))
  return jnp.where(jnp.abs(a) < 1.0, jnp.tanh(a), jnp.sign(a) * (1.0 - 2 * e / (1 + e)))


def discretised_gaussian(
  x: Float[ArrayLike, "*video"],
  mean: Float[ArrayLike, "..."],
  log_scale: Float[ArrayLike, "..."],
) -> Float[Array, "*video"]:
  """Computes log p of 8-bit data under a Gaussian cut into 256 bins, in nats.

  The outermost bins are open-ended. As in improved-diffusion, the normal distribution
  function is approximated by a tanh (error below 2e-4 in probability), and the
  probability of a bin is at least 1e-12.
  """

  def cdf(a):
    return 0.5 * (1.0 + _tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))

  inverse_scale = jnp.exp(-log_scale)
  upper = cdf(inverse_scale * (x - mean + 1 / 255))
  lower = cdf(inverse_scale * (x - mean - 1 / 255))
  upper = jnp.where(x > 0.999, 1.0, upper)
  lower = jnp.where(x < -0.999, 0.0, lower)
  return jnp.log(jnp.maximum(upper - lower, 1e-12))


def prior_bits(x: Float[ArrayLike, "*video"], level: Level) -> Float[Array, "*video"]:
  """Computes KL(q(z | x) || N(0, 1)) at the noisiest level, in bits per element."""
  logsnr = process.expand(level.logsnr, x.ndim)
  mean = process.alpha(logsnr) * x
  return gaussian_kl(mean, jax.nn.log_sigmoid(-logsnr), 0.0, 0.0) / LOG2


def step_bits(
  schedule: DiscreteSchedule,
  step: Int[ArrayLike, "*b"],
  x: Float[ArrayLike, "*video"],
  z: Float[ArrayLike, "*video"],
  estimate: Estimate,
  *,
  gamma: float = 0.0,
) -> Float[Array, "*video"]:
  """Computes one term of the discrete bound, in bits, per element of x.

  Args:
    schedule: a schedule of at least two steps.
    step: steps, [] or [B]. At step 0 the term is the decoder's.
    x: clean video.
    z: noisy video at this step.
    estimate: the denoiser's estimate for z.
    gamma: fixed variance, used if the estimate has none: 0 small, 1 large.

  Returns:
    KL(q(z_s | z_t, x) || p(z_s | z_t)), or -log p(x | z_0) at step 0.
  """
  if schedule.num_steps < 2:
    raise UserError("bound: the schedule has one step, at least two are needed")
  # Step 0 has no posterior, so step 1 stands in for it here; its lower variance is also
  # the decoder's, even for "fixed large".
  first = process.expand(step == 0, x.ndim)
  step = jnp.maximum(step, 1)
  t, s = schedule.level(step), schedule.level(step - 1)
  learned = estimate.gamma is not None
  true_mean, lower = process.posterior(z, x, t, s)
  mean, log_variance = process.posterior(
    z, estimate.x, t, s, estimate.gamma if learned else gamma
  )
  kl = gaussian_kl(true_mean, lower, mean, log_variance)
  if learned:
    _, upper = process.log_variance_bounds(schedule.level(0), schedule.level(-1))
    decoder = (1.0 - estimate.gamma) * lower + estimate.gamma * upper
  else:
    decoder = lower
  nll = -discretised_gaussian(x, estimate.x, 0.5 * decoder)
  return jnp.where(first, nll, kl) / LOG2


def learned_variance_loss(
  schedule: DiscreteSchedule,
  step: Int[ArrayLike, "*b"],
  x: Float[ArrayLike, "*video"],
  z: Float[ArrayLike, "*video"],
  estimate: Estimate,
  *,
  where: Bool[ArrayLike, "..."] | None,
  normalise: loss.Normalise,
) -> loss.Loss:
  """Computes the term that trains a learned variance, to be added to `denoising_loss`.

  Nichol & Dhariwal 2021, eq. 16 with weight N / 1000 in bits ("rescaled"): the bound
  with the gradient of the mean stopped, so that it moves the variance alone.
  """
  if estimate.gamma is None:
    raise UserError("learned variance: the network's output has no second half")
  estimate = estimate.replace(x=jax.lax.stop_gradient(estimate.x))
  bits = step_bits(schedule, step, x, z, estimate)
  return loss.masked_mean(
    bits * (schedule.num_steps / 1000.0), where=where, normalise=normalise
  )


def discrete_bound(
  denoiser: Denoiser,
  schedule: DiscreteSchedule,
  x: Float[ArrayLike, " b *rest"],
  *,
  key: Key[Array, ""] | Key[Array, " b"] | None = None,
  noise: Float[ArrayLike, "n b *rest"] | None = None,
  steps: Int[ArrayLike, " n"] | Int[ArrayLike, "b n"] | None = None,
  gamma: float = 0.0,
  where: Bool[ArrayLike, "..."] | None,
  normalise: loss.Normalise,
) -> DiscreteBound:
  """Computes the bound of a discrete schedule, with one noise draw per step.

  Args:
    denoiser: called with levels [B].
    schedule: a schedule of at least two steps.
    x: clean video in [-1, 1].
    key: a key, or one per example.
    noise: noise in the order of the steps, instead of a key.
    steps: the steps to visit; None for N-1, ..., 0.
    gamma: fixed variance, used if the denoiser learns none.
    where: see `loss.masked_mean`.
    normalise: see `loss.masked_mean`; FDM averages over "all" elements, and reports
      that times the number of frames.
  """
  batch = x.shape[0]
  if steps is None:
    steps = jnp.arange(schedule.num_steps - 1, -1, -1)
  steps = jnp.broadcast_to(jnp.asarray(steps), (batch, jnp.shape(steps)[-1]))
  source = noise_lib.per_step(key, noise, batch)

  def mean(values):
    return loss.masked_mean(values, where=where, normalise=normalise).per_example

  def visit(index, step):
    level = schedule.level(step)
    eps = noise_lib.normal(source(index), x.shape)
    z = process.forward(x, eps, level)
    estimate = denoiser(z, level)
    bits = step_bits(schedule, step, x, z, estimate, gamma=gamma)
    eps_hat = process.from_x("eps", estimate.x, z, level)
    errors = jnp.square(estimate.x - x), jnp.square(eps_hat - eps)
    return index + 1, tuple(mean(values) for values in (bits, *errors))

  _, terms = jax.lax.scan(visit, 0, steps.T)
  bits, x_mse, eps_mse = (term.T for term in terms)
  prior = mean(prior_bits(x, schedule.level(schedule.num_steps - 1)))
  return DiscreteBound(bits.sum(1) + prior, prior, bits, x_mse, eps_mse)


def continuous_bound(
  denoiser: Denoiser,
  schedule: ContinuousSchedule,
  x: Float[ArrayLike, " b *rest"],
  t: Float[ArrayLike, " b"],
  eps: Float[ArrayLike, " b *rest"],
  eps_0: Float[ArrayLike, " b *rest"],
  *,
  where: Bool[ArrayLike, "..."] | None,
  normalise: loss.Normalise,
) -> ContinuousBound:
  """Computes an unbiased estimate of the bound in continuous time.

  Args:
    denoiser: called once, with levels [B].
    schedule: its ends are the limits of the integral.
    x: clean video in [-1, 1].
    t: times, uniform; see `schedule.stratified_times`.
    eps: standard normal noise of z_t.
    eps_0: standard normal noise of z_0, from which the data are reconstructed.
    where: see `loss.masked_mean`.
    normalise: see `loss.masked_mean`.
  """

  def mean(values):
    return loss.masked_mean(values, where=where, normalise=normalise).per_example

  level = schedule.level(t)
  z = process.forward(x, eps, level)
  # The squared error of eps is computed from that of x to stay exact at high SNR.
  snr = jnp.exp(process.expand(level.logsnr, x.ndim))
  error = snr * jnp.square(x - denoiser(z, level).x)
  rate = process.expand(-0.5 * schedule.derivative(t), x.ndim)
  diffusion = mean(rate * error / LOG2)
  start = schedule.level(jnp.zeros(()))
  # z_0 / alpha_0 = x + eps_0 sigma_0 / alpha_0.
  log_scale = -0.5 * start.logsnr
  decoded = x + jnp.exp(log_scale) * eps_0
  reconstruction = mean(-discretised_gaussian(x, decoded, log_scale) / LOG2)
  prior = mean(prior_bits(x, schedule.level(jnp.ones(()))))
  return ContinuousBound(
    prior + reconstruction + diffusion, prior, reconstruction, diffusion
  )
