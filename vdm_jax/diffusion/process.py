"""The Gaussian process: forward, posterior, and what a network's output means.

    z = alpha x + sigma eps         x clean video, z noisy video, eps standard normal
    alpha^2 = sigmoid(logsnr)       sigma^2 = sigmoid(-logsnr)
    v = alpha eps - sigma x         flow = eps - x, the velocity of rectified flow

For a level s cleaner than t, with d = logsnr_s - logsnr_t,

    q(z_s | z_t, x) = N(exp(-d) alpha_s / alpha_t z_t + (1 - exp(-d)) alpha_s x,
                        (1 - exp(-d)) sigma_s^2)

Levels have shape [], [B] or [B, T] and are broadcast to videos [B, T, H, W, C] (or
any array) by appending axes. Everything is computed in float32, whatever the network's
dtype.
"""

from collections.abc import Callable
from typing import Literal, get_args

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from vdm_jax.diffusion.schedule import CLEAN_LOGSNR, Level
from vdm_jax.errors import UserError, unknown

Predict = Literal["x", "eps", "v", "flow"]


@flax.struct.dataclass
class Estimate:
  """A denoiser's estimate.

  Attributes:
    x: estimate of the clean video.
    gamma: place of the reverse step's log variance between its lower (0)
      and upper (1) bound, broadcastable to x; None leaves it to the sampler.
  """

  x: Float[Array, "*video"]
  gamma: Float[Array, "..."] | None = None


# Maps the noisy video and its level to an estimate.
Denoiser = Callable[[Float[Array, "..."], Level], Estimate]


def check_predict(predict: str) -> None:
  """Raises UserError unless `predict` is "x", "eps", "v" or "flow"."""
  if predict not in get_args(Predict):
    raise unknown("prediction", predict, get_args(Predict))


def expand(a: Shaped[ArrayLike, "..."], ndim: int) -> Shaped[Array, "..."]:
  """Appends axes of length one until `a` has `ndim` of them."""
  a = jnp.asarray(a)
  return a.reshape(a.shape + (1,) * (ndim - a.ndim))


def at_least_float32(a: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
  a = jnp.asarray(a)
  return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def alpha(logsnr: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
  """Computes the coefficient of the data: alpha^2 = sigmoid(logsnr)."""
  return jnp.exp(0.5 * jax.nn.log_sigmoid(logsnr))


def sigma(logsnr: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
  """Computes the coefficient of the noise, from sigmoid(-logsnr), not 1 - alpha^2."""
  return alpha(-logsnr)


def is_clean(level: Level) -> Bool[Array, "*level"]:
  """Returns whether a level is that of clean data, without any noise."""
  return level.logsnr >= CLEAN_LOGSNR


def _coefficients(level: Level, ndim: int) -> tuple[jax.Array, jax.Array]:
  logsnr = expand(level.logsnr, ndim)
  return alpha(logsnr), sigma(logsnr)


def forward(
  x: Float[ArrayLike, "*video"], eps: Float[ArrayLike, "*video"], level: Level
) -> Float[Array, "*video"]:
  """Draws z from q(z_t | x), given standard normal eps."""
  a, s = _coefficients(level, x.ndim)
  return a * x + s * eps


def to_x(
  predict: Predict,
  value: Float[ArrayLike, "*video"],
  z: Float[ArrayLike, "*video"],
  level: Level,
) -> Float[Array, "*video"]:
  """Converts a prediction to the clean video that it implies.

  From eps this divides by alpha, so at a log SNR of -20 rounding errors grow by e^10.
  """
  check_predict(predict)
  a, s = _coefficients(level, z.ndim)
  value, z = at_least_float32(value), at_least_float32(z)
  if predict == "x":
    return value
  if predict == "flow":
    return (z - s * value) / (a + s)
  return (z - s * value) / a if predict == "eps" else a * z - s * value


def from_x(
  predict: Predict,
  x: Float[ArrayLike, "*video"],
  z: Float[ArrayLike, "*video"],
  level: Level,
) -> Float[Array, "*video"]:
  """Converts a clean video to the prediction that implies it; inverse of `to_x`."""
  check_predict(predict)
  a, s = _coefficients(level, z.ndim)
  x, z = at_least_float32(x), at_least_float32(z)
  if predict == "x":
    return x
  if predict == "flow":
    return (z - (a + s) * x) / s
  return (z - a * x) / s if predict == "eps" else (a * z - x) / s


def target(
  predict: Predict,
  x: Float[ArrayLike, "*video"],
  eps: Float[ArrayLike, "*video"],
  level: Level,
) -> Float[ArrayLike, "*video"]:
  """Computes the target of a network's prediction."""
  check_predict(predict)
  a, s = _coefficients(level, x.ndim)
  return {"x": x, "eps": eps, "v": a * eps - s * x, "flow": eps - x}[predict]


def split_output(
  output: Float[ArrayLike, "*lead k"], channels: int
) -> tuple[Float[Array, "*lead c"], Float[Array, "*lead c"] | None]:
  """Splits a network's output into the prediction and gamma.

  Args:
    output: [..., C], or [..., 2C] if the network learns its variance: the second
      half, in [-1, 1] or a little outside, places the log variance between its bounds
      (Nichol & Dhariwal 2021, eq. 15).
    channels: number of channels C.

  Returns:
    The prediction and gamma (None if not learned), in float32.

  Raises:
    UserError: `output` has neither C nor 2C channels.
  """
  output = at_least_float32(output)
  if output.shape[-1] == channels:
    return output, None
  if output.shape[-1] == 2 * channels:
    prediction, variance = jnp.split(output, 2, axis=-1)
    return prediction, (variance + 1.0) / 2.0
  raise UserError(
    f"network output: expected {channels} or {2 * channels} channels, "
    f"found {output.shape[-1]}"
  )


def from_output(
  predict: Predict,
  output: Float[ArrayLike, "*lead k"],
  z: Float[ArrayLike, "*lead c"],
  level: Level,
) -> Estimate:
  """Converts a network's output to an estimate.

  Args:
    predict: what the network predicts.
    output: [..., C] or, with learned variance, [..., 2C]; any float dtype.
    z: the noisy video.
    level: noise level of z.
  """
  prediction, gamma = split_output(output, z.shape[-1])
  return Estimate(to_x(predict, prediction, z, level), gamma)


def _log1mexp(d: jax.Array) -> jax.Array:
  """Computes log(1 - exp(-d)) for d > 0."""
  # Each form is accurate on its side of log 2 (Maechler 2012). Its argument is kept on
  # that side, so that the gradient of the unused form stays finite.
  small, large = jnp.minimum(d, 0.6931), jnp.maximum(d, 0.6931)
  return jnp.where(d < 0.6931, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


def log_variance_bounds(
  t: Level, s: Level
) -> tuple[Float[Array, "*level"], Float[Array, "*level"]]:
  """Computes the lower and upper bound of the log variance of the step from t to s.

  The lower bound is that of q(z_s | z_t, x) ("fixed small"), the upper bound that of
  q(z_t | z_s) ("fixed large", beta of a discrete schedule); shaped as the levels.
  """
  log_ratio = _log1mexp(s.logsnr - t.logsnr)
  return (
    log_ratio + jax.nn.log_sigmoid(-s.logsnr),
    log_ratio + jax.nn.log_sigmoid(-t.logsnr),
  )


def posterior(
  z: Float[ArrayLike, "*video"],
  x: Float[ArrayLike, "*video"],
  t: Level,
  s: Level,
  gamma: Float[ArrayLike, "..."] = 0.0,
) -> tuple[Float[Array, "*video"], Float[Array, "..."]]:
  """Computes the reverse step p(z_s | z_t) for an estimate x of the clean video.

  With the true x and gamma = 0 it is q(z_s | z_t, x) (VDM, section 2). A discrete
  schedule gives the coefficients of Ho et al. 2020, eq. 7.

  Args:
    z: noisy video at level t.
    x: clean video or its estimate.
    t: level of z.
    s: a cleaner level.
    gamma: 0 for the lower, 1 for the upper log variance; a number or one per element.

  Returns:
    The mean, and the log variance (broadcastable to the mean).
  """
  lower, upper = (expand(bound, z.ndim) for bound in log_variance_bounds(t, s))
  t, s = (jax.tree.map(lambda a: expand(a, z.ndim), level) for level in (t, s))
  difference = t.logsnr - s.logsnr
  # alpha_s / alpha_t * exp(difference) in logs, as alpha_t alone underflows.
  z_coefficient = jnp.exp(
    0.5 * (jax.nn.log_sigmoid(s.logsnr) - jax.nn.log_sigmoid(t.logsnr)) + difference
  )
  mean = z_coefficient * z - jnp.expm1(difference) * alpha(s.logsnr) * x
  return mean, (1.0 - gamma) * lower + gamma * upper


def transition(
  z: Float[ArrayLike, "*video"], eps: Float[ArrayLike, "*video"], s: Level, t: Level
) -> Float[Array, "*video"]:
  """Draws from q(z_t | z_s), a forward step from a cleaner to a noisier level."""
  _, upper = log_variance_bounds(t, s)
  log_alpha = jax.nn.log_sigmoid(t.logsnr) - jax.nn.log_sigmoid(s.logsnr)
  return (
    expand(jnp.exp(0.5 * log_alpha), z.ndim) * z
    + expand(jnp.exp(0.5 * upper), z.ndim) * eps
  )
