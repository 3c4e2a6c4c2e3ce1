"""Training losses: where the error is measured, how it is weighted and averaged.

For one estimate, the errors of x, eps, v and the flow differ only by a factor that
depends on the level: with SNR = alpha^2 / sigma^2 and squared errors,

    |eps - eps_hat|^2 = SNR |x - x_hat|^2,   |v - v_hat|^2 = (SNR + 1) |x - x_hat|^2,
    |flow - flow_hat|^2 = (sqrt(SNR) + 1)^2 |x - x_hat|^2.

So a loss in a space other than the network's is the network's own error times a
factor; nothing is converted, and no precision is lost. A weighting means the same in
every space: `snr`, for instance, is always the plain eps loss.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from vdm_jax.diffusion import process
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError, unknown

Normalise = Literal["all", "example", "selected"]
Norm = Literal["l1", "l2"]

# Maps log SNR and the space of the loss to a factor on the squared error in that space.
Weighting = Callable[[Float[Array, "..."], process.Predict], Float[Array, "..."]]


class Loss(NamedTuple):
  """A batch's loss: `mean`, and `per_example` (for means by log-SNR band)."""

  mean: Float[Array, ""]
  per_example: Float[Array, " b"]


def _log_space_factor(space: process.Predict, logsnr: jax.Array) -> jax.Array:
  """Returns the log of the ratio of the squared error in `space` to that in x."""
  process.check_predict(space)
  return {
    "x": jnp.zeros_like(logsnr),
    "eps": logsnr,
    "v": jax.nn.softplus(logsnr),
    "flow": 2.0 * jax.nn.softplus(logsnr / 2.0),
  }[space]


def _weighting(log_x_weight: Callable[[jax.Array], jax.Array]) -> Weighting:
  """Makes the weighting that multiplies the squared error of x by exp(log_x_weight)."""
  return lambda logsnr, space: jnp.exp(
    log_x_weight(logsnr) - _log_space_factor(space, logsnr)
  )


def simple() -> Weighting:
  """Weighs every level by one, whatever the space (Ho et al. 2020, eq. 14)."""
  return lambda logsnr, space: jnp.ones_like(logsnr)


def snr() -> Weighting:
  """Weighs the error of x by SNR, which is the plain eps loss."""
  return _weighting(lambda logsnr: logsnr)


def truncated_snr() -> Weighting:
  """Weighs the error of x by max(SNR, 1) (Salimans & Ho 2022, section 4)."""
  return _weighting(lambda logsnr: jnp.maximum(logsnr, 0.0))


def min_snr(gamma: float = 5.0) -> Weighting:
  """Weighs the error of x by min(SNR, gamma) (Hang et al. 2023, eq. 5)."""
  return _weighting(lambda logsnr: jnp.minimum(logsnr, jnp.log(gamma)))


def p2(k: float = 1.0, gamma: float = 1.0) -> Weighting:
  """Weighs the error of eps by (k + SNR)^-gamma (Choi et al. 2022, eq. 8)."""
  return _weighting(lambda logsnr: logsnr - gamma * jnp.logaddexp(jnp.log(k), logsnr))


WEIGHTINGS = {f.__name__: f for f in (simple, snr, truncated_snr, min_snr, p2)}


def masked_mean(
  values: Float[ArrayLike, "b ..."],
  *,
  where: Bool[ArrayLike, "..."] | None,
  normalise: Normalise,
) -> Loss:
  """Averages over selected elements in one of the three ways that the papers use.

  Args:
    values: what is averaged, per element.
    where: which elements count; [B] or [B, T] or broadcastable to `values`
      after appending axes; None for all.
    normalise: the denominator. "all" counts all elements, with those not selected as
      zeros (FDM). "example" averages each example over its own selected elements, then
      over the examples that have some (RaMViD). "selected" counts all selected elements
      of the batch, so that each weighs the same (RVD).

  Returns:
    The mean, and the mean of each example over its own denominator (for "selected"
    that of "example"). An example without selected elements has 0.

  Raises:
    UserError: `normalise` is unknown or, outside of jit, the denominator is zero.
      Inside jit the value is then 0, never NaN.
  """
  if normalise not in get_args(Normalise):
    raise unknown("normalisation", normalise, get_args(Normalise))
  values = process.at_least_float32(values)
  axes = tuple(range(1, values.ndim))
  if where is None:
    per_example = values.mean(axes)
    return Loss(per_example.mean(), per_example)
  where = jnp.broadcast_to(process.expand(where, values.ndim), values.shape)
  # Not a product: unselected elements may be anything, even infinite.
  sums = jnp.where(where, values, 0.0).sum(axes)
  if normalise == "all":
    per_example = sums / values[0].size
    return Loss(per_example.mean(), per_example)
  counts = where.sum(axes)
  empty = (counts == 0).any() if normalise == "example" else (counts == 0).all()
  if not isinstance(empty, jax.core.Tracer) and bool(empty):
    raise UserError(
      f"loss: normalise={normalise!r} averages over selected frames, but "
      f"{int((counts == 0).sum())} of {len(counts)} examples have none"
    )
  per_example = sums / jnp.maximum(counts, 1)
  if normalise == "selected":
    return Loss(sums.sum() / jnp.maximum(counts.sum(), 1), per_example)
  return Loss(per_example.sum() / jnp.maximum((counts > 0).sum(), 1), per_example)


def denoising_error(
  predict: process.Predict,
  prediction: Float[ArrayLike, "*video"],
  x: Float[ArrayLike, "*video"],
  eps: Float[ArrayLike, "*video"],
  level: Level,
  *,
  space: process.Predict | None = None,
  weighting: Weighting | None = None,
  norm: Norm = "l2",
) -> Float[Array, "*video"]:
  """Computes the weighted error of a prediction per element, in float32.

  The arguments are those of `denoising_loss`.
  """
  if norm not in get_args(Norm):
    raise unknown("norm", norm, get_args(Norm))
  space = space or predict
  prediction, x, eps = (process.at_least_float32(a) for a in (prediction, x, eps))
  logsnr = process.expand(level.logsnr, x.ndim)
  error = prediction - process.target(predict, x, eps, level)
  if space != predict:
    factor = _log_space_factor(space, logsnr) - _log_space_factor(predict, logsnr)
    error = error * jnp.exp(0.5 * factor)
  error = jnp.abs(error) if norm == "l1" else jnp.square(error)
  if weighting is not None:
    error = error * weighting(logsnr, space)
  return error


def denoising_loss(
  predict: process.Predict,
  prediction: Float[ArrayLike, "*video"],
  x: Float[ArrayLike, "*video"],
  eps: Float[ArrayLike, "*video"],
  level: Level,
  *,
  where: Bool[ArrayLike, "..."] | None,
  normalise: Normalise,
  space: process.Predict | None = None,
  weighting: Weighting | None = None,
  norm: Norm = "l2",
) -> Loss:
  """Computes the mean error of a network's prediction.

  Args:
    predict: what the network predicts.
    prediction: its output [B, T, H, W, C], any float dtype, without learned variance
      (see `process.split_output`).
    x: clean video.
    eps: noise in the network's input.
    level: noise level of shape [], [B] or [B, T].
    where: see `masked_mean`.
    normalise: see `masked_mean`.
    space: space in which the error is measured; None for the network's own.
    weighting: factor by level; None for `simple()`.
    norm: "l1" (absolute error) or "l2" (squared error); weighted alike.
  """
  error = denoising_error(
    predict, prediction, x, eps, level, space=space, weighting=weighting, norm=norm
  )
  return masked_mean(error, where=where, normalise=normalise)
