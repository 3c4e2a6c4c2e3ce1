"""RVD (Yang et al. 2022), which predicts the next frame and diffuses the residual.

The objective is that of the released code: frames from `task.num_context` on are
scored, each given all true frames before it, at one diffusion step per clip; no loss
scores the prediction by itself. Options that the release lacks: a loss on the
prediction, a diffusion step per frame, no gradient from the denoiser into the
predictor, and training in two stages, first the predictor by itself, then the rest.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdm_jax import plans, tasks
from vdm_jax.diffusion import loss as losses
from vdm_jax.diffusion import process
from vdm_jax.errors import UserError, unknown
from vdm_jax.frames import Frames
from vdm_jax.models import rvd
from vdm_jax.systems import parts, sections, system

# Values of `config.diffusion.train_only`; '' trains everything.
STAGES = ("", "predictor", "denoiser")
# Largest residual, as a frame and its prediction are both in [-1, 1].
RESIDUAL_BOUND = 2.0
# Any number of its multiples, modulo one, is evenly spread.
_GOLDEN_RATIO = 0.6180339887


@dataclasses.dataclass(frozen=True)
class Diffusion(sections.Diffusion):
  """The section `config.diffusion` of RVD; its own fields are those of `RvdSystem`."""

  regression_weight: float = 0.0
  step_per_frame: bool = False
  stop_gradient: bool = False
  train_only: str = ""


class RvdScored(NamedTuple):
  """A batch's loss as `parts.Scored`, with arrays of the S scored frames only.

  Attributes:
    loss: the scalar loss.
    per_example: [B], loss of the denoiser.
    latent: [B], see `parts.Scored`.
    z: [B, S, H, W, C], the denoiser's input; None if only the predictor is trained.
    output: the denoiser's output, of z's shape; None with z.
    mu: predictions of z's shape, in [-1, 1]; None without a predictor.
    mu_error: [B], error of the predictions in the norm of the loss; None with mu.
    mu_square: [B], mean squared error of the predictions; None with mu.
  """

  loss: jax.Array
  per_example: jax.Array
  latent: jax.Array
  z: jax.Array | None
  output: jax.Array | None
  mu: jax.Array | None
  mu_error: jax.Array | None
  mu_square: jax.Array | None


@dataclasses.dataclass(frozen=True)
class RvdSystem(system.DiffusionSystem):
  """A `DiffusionSystem` that scores only the frames that have a past.

  Attributes:
    regression_weight: weight of a loss on the prediction itself, in the objective's
      norm.
    step_per_frame: whether every frame has its own diffusion step.
    stop_gradient: whether the denoiser's loss is kept from the predictor.
    train_only: 'predictor' trains only the predictor, by the loss on its prediction;
      'denoiser' trains denoiser and context net with a fixed predictor; '' trains all.
  """

  regression_weight: float = 0.0
  step_per_frame: bool = False
  stop_gradient: bool = False
  train_only: str = ""

  def noise(self, u: jax.Array, eps: jax.Array) -> parts.Noise:
    """Makes noise as `DiffusionSystem.noise`; levels are [B, T] if `step_per_frame`."""
    if self.step_per_frame:
      # Uniform for every frame, and evenly spread within a clip.
      offsets = _GOLDEN_RATIO * jnp.arange(eps.shape[1])
      u = jnp.mod(u[:, None] + offsets, 1.0)
    return super().noise(u, eps)

  def score(
    self,
    params: Any,
    video: jax.Array,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    noise: parts.Noise,
    *,
    seen: jax.Array | None = None,
    valid: jax.Array | None = None,
    dropout: jax.Array | None = None,
  ) -> RvdScored:
    """Scores frames as `DiffusionSystem.score`, from number `task.num_context` on."""
    first = self.task.num_context
    if self.train_only == "denoiser" and "predictor" in params:
      fixed = jax.lax.stop_gradient(params["predictor"])
      params = {**params, "predictor": fixed}
    seen = video if seen is None else seen
    encoded = self.network.apply(
      {"params": params}, seen, frames, cond, last=video.shape[1] - first,
      method="encode",
    )  # fmt: skip
    target, frames = video[:, first:], jax.tree.map(lambda a: a[:, first:], frames)
    noise = _from(first, noise)
    valid = jnp.ones(len(video), bool) if valid is None else valid
    where = frames.latent & valid[:, None]
    residual, of_mu = target, {"mu": None, "mu_error": None, "mu_square": None}
    if encoded.base is not None:
      mu = encoded.base[:, first:]
      # The unclamped prediction, as clamping has no gradient out of range.
      regression = self._error(encoded.context.mu, target, where).mean
      square = losses.masked_mean(
        jnp.square(target - mu), where=where, normalise="selected"
      )
      error = self._error(mu, target, where).per_example
      of_mu = {"mu": mu, "mu_error": error, "mu_square": square.per_example}
      if self.train_only == "predictor":
        return RvdScored(regression, error, error, z=None, output=None, **of_mu)
      residual = target - (jax.lax.stop_gradient(mu) if self.stop_gradient else mu)
    x = residual / encoded.scale
    z = process.forward(x, noise.eps, noise.level)
    output = self._apply(
      params, "denoise", z, noise.level, frames, encoded.context, dropout
    )
    scored = self._score(output, x, z, frames, noise, valid)
    total = scored.loss
    if encoded.base is not None and self.regression_weight and not self.train_only:
      total = total + self.regression_weight * regression
    return RvdScored(**scored._replace(loss=total)._asdict(), **of_mu)

  def _error(self, prediction, target, where) -> losses.Loss:
    error = target - prediction
    error = jnp.abs(error) if self.objective.norm == "l1" else jnp.square(error)
    return losses.masked_mean(error, where=where, normalise="selected")

  def _metrics(self, scored, frames, level, valid) -> dict[str, jax.Array]:
    metrics = super()._metrics(scored, frames, level, valid)
    if scored.mu is not None:
      # Clamped predictions have no gradient: once all are clamped, learning stops.
      clamped = jnp.mean(jnp.abs(scored.mu) >= 1.0, axis=(1, 2, 3, 4))
      count = jnp.sum(valid.astype(jnp.float32))
      for name, values in (
        ("mu_clamped", clamped),
        ("mu_error", scored.mu_error),
        ("mu_square", scored.mu_square),
      ):
        metrics[name] = jnp.stack([jnp.sum(jnp.where(valid, values, 0.0)), count])
    return metrics


def _from(first: int, noise: parts.Noise) -> parts.Noise:
  """Selects the noise of the frames from `first` on; a level [B] holds for all."""
  noise = noise._replace(eps=noise.eps[:, first:])
  if noise.level.logsnr.ndim == 1:
    return noise
  level = jax.tree.map(lambda a: a[:, first:], noise.level)
  step = None if noise.step is None else noise.step[:, first:]
  return noise._replace(level=level, step=step)


def build(config: Mapping[str, Any]) -> RvdSystem:
  """Builds the system of a config with `config.system = 'rvd'`.

  Raises:
    UserError: the networks do not take the frame, or a field's value is invalid.
  """
  height, width, _ = config["data"]["frame_shape"]
  network = sections.network(rvd.RvdSettings, config)
  network.check(height, width)
  d = sections.read(Diffusion, config["diffusion"], "config.diffusion")
  plan = config.get("plan") or {"name": "rollout"}
  shared = sections.shared({**config, "plan": plan}, d)
  task = shared["task"]
  if not isinstance(task, tasks.NextFrame):
    raise UserError(
      f"config.task.name: RVD is trained by 'next_frame', found "
      f"{config['task']['name']!r}"
    )
  _check_options(d, network)
  decay = config.get("optimizer", {}).get("weight_decay", 0)
  if d.train_only and decay:
    raise UserError(
      f"config.optimizer.weight_decay: {decay:g} would change the networks that "
      f"config.diffusion.train_only = {d.train_only!r} keeps as they are; expected 0"
    )
  if shared["plan"] == "rollout":
    shared["plan_options"] = {"context": task.num_context, **shared["plan_options"]}
  return RvdSystem(
    network=rvd.RvdNetwork(network),
    threshold_bound=(
      None if network.estimate_frame else RESIDUAL_BOUND / network.residual_scale
    ),
    windows=plans.Recurrent(),
    regression_weight=d.regression_weight,
    step_per_frame=d.step_per_frame,
    stop_gradient=d.stop_gradient,
    train_only=d.train_only,
    **shared,
  )


def _check_options(d: Diffusion, network: rvd.RvdSettings) -> None:
  if network.estimate_frame and d.predict != "x":
    raise UserError(
      "config.diffusion.predict: config.model.estimate_frame wants 'x', found "
      f"{d.predict!r}"
    )
  if d.regression_weight < 0:
    raise UserError(
      f"config.diffusion.regression_weight: expected >= 0, found {d.regression_weight}"
    )
  if d.train_only not in STAGES:
    raise unknown("config.diffusion.train_only", d.train_only, STAGES)
  for field in ("regression_weight", "stop_gradient", "train_only"):
    if getattr(d, field) and not network.residual:
      raise UserError(
        f"config.diffusion.{field}: there is no prediction with "
        "config.model.residual = False"
      )
  if d.stop_gradient and not d.regression_weight:
    raise UserError(
      "config.diffusion.stop_gradient: nothing would train the predictor; set "
      "config.diffusion.regression_weight too"
    )
