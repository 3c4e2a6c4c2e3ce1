"""Guidance and thresholding: functions that map denoisers to denoisers.

They compose from the inside out in this order: `classifier_free`, then `toward`
(reconstruction and super-resolution guidance), then thresholding (a clipped estimate
has no gradient, so it must not be inside `toward`), then `pinned`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float

from vdm_jax import pixels
from vdm_jax.diffusion import noise, process
from vdm_jax.diffusion.process import Denoiser, Estimate
from vdm_jax.diffusion.sampler import Constrain
from vdm_jax.errors import UserError, unknown

WeightRule = Literal["constant", "over_alpha_squared"]


def classifier_free(
  conditional: Denoiser, unconditional: Denoiser, weight: float
) -> Denoiser:
  """Guides by x = (1 + w) x_c - w x_u (Ho & Salimans 2022, eq. 6; equally in eps, v).

  Args:
    conditional: denoiser with the signal; its gamma is kept.
    unconditional: the same network without the signal.
    weight: w; 0 is no guidance. A "guidance scale" for which 1 is no guidance
      (lucidrains' cond_scale, VDM's table 5) is 1 + w.
  """

  def denoise(z, level):
    estimate = conditional(z, level)
    other = unconditional(z, level).x
    return estimate.replace(x=estimate.x + weight * (estimate.x - other))

  return denoise


def classifier_free_paired(both: Denoiser, weight: float) -> Denoiser:
  """Applies `classifier_free` with one network call of twice the batch.

  Args:
    both: denoiser of 2 B rows: for each example a conditional row, then an
      unconditional one, so that a device that holds an example holds both.
    weight: w, as for `classifier_free`.
  """

  def denoise(z, level):
    rows = len(z)
    estimate = both(
      jnp.repeat(z, 2, axis=0),
      jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0) if a.ndim else a, level),
    )
    pairs = estimate.x.reshape(rows, 2, *estimate.x.shape[1:])
    gamma = estimate.gamma
    if gamma is not None and jnp.ndim(gamma):
      gamma = gamma[::2]
    return Estimate(pairs[:, 0] + weight * (pairs[:, 0] - pairs[:, 1]), gamma)

  return denoise


class Observation(NamedTuple):
  """Something that is known of the clean video.

  Attributes:
    observe: differentiable function that maps a video to what is known of it.
    value: the known value of `observe(video)`.
    weight: w_r, the weight of this observation.
  """

  observe: Callable[[Float[Array, "..."]], Float[Array, "..."]]
  value: Float[Array, "..."]
  weight: float


def given_frames(
  given: Float[ArrayLike, "b ..."], observed: Bool[ArrayLike, "..."], weight: float
) -> Observation:
  """Observes given frames, for temporal extension and infilling (VDM, section 3.1).

  Args:
    given: clean video [B, T, ...], of which only the given frames are read.
    observed: the given frames, [B, T] or broadcastable after appending axes.
    weight: w_r. Values above 1 help if few frames are given (the paper: 9 to 50).
  """
  observed = process.expand(observed, given.ndim)
  return Observation(
    lambda x: jnp.where(observed, x, 0.0), jnp.where(observed, given, 0.0), weight
  )


def low_resolution(
  low_res: Float[ArrayLike, "b t h w c"], known: Bool[ArrayLike, "b t"], weight: float
) -> Observation:
  """Observes a low-resolution copy of the video, or of some frames (section 3.1).

  Args:
    low_res: low-resolution video; the video is averaged down to it.
    known: the frames that the copy holds.
    weight: w_r. If it is the number of pixels averaged into one, samples of Gaussian
      pixels match the low-resolution copy exactly.
  """
  known = process.expand(known, low_res.ndim)
  height, width = low_res.shape[2:4]

  def observe(x):
    return jnp.where(known, pixels.average(x, height, width), 0.0)

  return Observation(observe, jnp.where(known, low_res, 0.0), weight)


def toward(
  denoiser: Denoiser,
  observations: Sequence[Observation],
  *,
  fixed: Bool[ArrayLike, "..."] | None = None,
  rule: WeightRule = "constant",
) -> Denoiser:
  """Moves estimates toward agreement with observations.

  x_hat - (w_r alpha / 2) d ||y - observe(x_hat)||^2 / dz, summed over observations. A
  call takes one vector-Jacobian product of the network, however many there are.

  Args:
    denoiser: differentiable in z.
    observations: what is known of the clean video.
    fixed: [B, T] or broadcastable after appending axes: frames whose estimates
      are left alone because their z is set by `replacement` or `pinned`.
    rule: "constant" as in the paper; "over_alpha_squared" uses w_r / alpha^2, which
      is near the exact weight at high noise for w_r = 1.
  """
  if rule not in get_args(WeightRule):
    raise unknown("weight rule", rule, get_args(WeightRule))

  def denoise(z, level):
    def observed(z):
      estimate = denoiser(z, level)
      return [one.observe(estimate.x) for one in observations], estimate

    seen, pull, estimate = jax.vjp(observed, z, has_aux=True)
    # The residual as cotangent gives the gradient of -1/2 of its squared norm: a sum,
    # not a mean, over the elements of a sample.
    (gradient,) = pull(
      [
        (one.weight * (one.value - found)).astype(found.dtype)
        for one, found in zip(observations, seen, strict=True)
      ]
    )
    alpha = process.expand(process.alpha(level.logsnr), z.ndim)
    scale = alpha if rule == "constant" else 1.0 / alpha
    move = scale * process.at_least_float32(gradient)
    if fixed is not None:
      move = jnp.where(process.expand(fixed, z.ndim), 0.0, move)
    return estimate.replace(x=estimate.x + move)

  return denoise


def reconstruction(
  denoiser: Denoiser,
  given: Float[ArrayLike, "b ..."],
  observed: Bool[ArrayLike, "..."],
  weight: float,
  rule: WeightRule = "constant",
) -> Denoiser:
  """Applies reconstruction guidance: `toward` given frames whose z is set elsewhere."""
  return toward(
    denoiser, [given_frames(given, observed, weight)], fixed=observed, rule=rule
  )


def pinned(
  denoiser: Denoiser,
  given: Float[ArrayLike, "b ..."],
  observed: Bool[ArrayLike, "..."],
  gamma: float = 0.0,
) -> Denoiser:
  """Pins the estimate to given frames, whose z is then redrawn from the posterior.

  With x known and its gamma 0, an ancestral step draws from q(z_s | z_t, x). The given
  frames of the first z must be drawn by `process.forward`.

  Args:
    denoiser: the denoiser to wrap.
    given: clean video [B, T, ...].
    observed: the given frames, [B, T] or broadcastable after appending axes.
    gamma: the sampler's gamma, used for all other frames.
  """
  observed = process.expand(observed, given.ndim)

  def denoise(z, level):
    estimate = denoiser(z, level)
    others = gamma if estimate.gamma is None else estimate.gamma
    return Estimate(
      jnp.where(observed, given, estimate.x), jnp.where(observed, 0.0, others)
    )

  return denoise


def replacement(
  given: Float[ArrayLike, "b ..."], observed: Bool[ArrayLike, "..."]
) -> Constrain:
  """Draws the given frames of z afresh from q(z | x) before every network call.

  This is the replacement method (Song et al. 2021; VDM, section 3.1). Alone it
  conditions badly, even with a perfect denoiser; see `reconstruction`.

  Args:
    given: clean video [B, T, ...].
    observed: the given frames, [B, T] or broadcastable after appending axes.
  """
  observed = process.expand(observed, given.ndim)

  def constrain(z, level, source):
    if source is None:
      raise UserError("replacement: the draws are random: give `sample` a key")
    drawn = process.forward(given, noise.normal(source, z.shape), level)
    return jnp.where(observed, drawn, z)

  return constrain


def pasting(
  given: Float[ArrayLike, "b ..."], observed: Bool[ArrayLike, "..."]
) -> Constrain:
  """Pastes the clean given frames into z at every level (RaMViD)."""
  observed = process.expand(observed, given.ndim)
  return lambda z, level, source: jnp.where(observed, given, z)


def threshold_static(
  denoiser: Denoiser,
  low: Float[ArrayLike, "..."] = -1.0,
  high: Float[ArrayLike, "..."] = 1.0,
) -> Denoiser:
  """Clips the estimate to [low, high]; for RVD's residuals -2 and 2."""

  def denoise(z, level):
    estimate = denoiser(z, level)
    return estimate.replace(x=jnp.clip(estimate.x, low, high))

  return denoise


def threshold_dynamic(denoiser: Denoiser, percentile: float) -> Denoiser:
  """Clips to the quantile of |x| if that is above 1, and scales back to [-1, 1].

  See Saharia et al. 2022, section 2.3.

  Args:
    denoiser: the denoiser to wrap.
    percentile: which quantile over all elements of an example, such as 0.995.
  """
  if not 0.0 < percentile <= 1.0:
    raise UserError(
      f"dynamic threshold: percentile is a fraction in (0, 1], found {percentile}"
    )

  def denoise(z, level):
    estimate = denoiser(z, level)
    x = process.at_least_float32(estimate.x)
    quantile = jnp.quantile(jnp.abs(x.reshape(x.shape[0], -1)), percentile, axis=1)
    scale = process.expand(jnp.maximum(quantile, 1.0), x.ndim)
    return estimate.replace(x=jnp.clip(x, -scale, scale) / scale)

  return denoise
