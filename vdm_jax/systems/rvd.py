"""RVD (Yang et al. 2022): predict the next frame, diffuse what the prediction missed.

The objective is the released one: frames from `task.num_context` on are scored, each
given all true frames before it, at one diffusion step a clip; nothing scores the
prediction by itself. What the release leaves out is an option: a loss on the
prediction, a step of its own for every frame, no gradient from the denoiser into the
predictor; and training in two stages, the predictor by itself first, then the rest.
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

# What is trained, in `config.diffusion.train_only`; '' is everything.
STAGES = ("", "predictor", "denoiser")
# Estimates of a residual: a frame and its prediction are both in [-1, 1].
RESIDUAL_BOUND = 2.0
# Multiples of it, modulo one, are spread evenly however many there are.
_GOLDEN_RATIO = 0.6180339887


@dataclasses.dataclass(frozen=True)
class Diffusion(sections.Diffusion):
  """`config.diffusion` of RVD; see `RvdSystem` for what it adds."""

  regression_weight: float = 0.0
  step_per_frame: bool = False
  stop_gradient: bool = False
  train_only: str = ""


class Scored(NamedTuple):
  """See `parts.Scored`; arrays hold the S scored frames alone.

  Attributes:
    loss: scalar.
    per_example: [B], of the denoiser.
    latent: [B].
    z: [B, S, H, W, C]; None where the predictor is trained by itself.
    output: of z's shape.
    mu: predictions of z's shape, in [-1, 1]; None without a predictor.
    mu_error: [B], how far they are off, in the norm of the loss; None with mu.
    mu_square: [B], their mean squared error; None with mu.
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
    regression_weight: of a loss on the prediction itself, in the objective's norm.
    step_per_frame: every frame at a diffusion step of its own.
    stop_gradient: the denoiser's loss does not reach the predictor.
    train_only: 'predictor' is trained by the loss on its prediction alone; 'denoiser'
      (and the context net) under a predictor that stays as it is; '' trains all.
  """

  regression_weight: float = 0.0
  step_per_frame: bool = False
  stop_gradient: bool = False
  train_only: str = ""

  def noise(self, u: jax.Array, eps: jax.Array) -> parts.Noise:
    """As `DiffusionSystem.noise`; levels are [B, T] with a step per frame."""
    if self.step_per_frame:
      # Uniform for every frame, and those of a clip are spread.
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
  ) -> Scored:
    """As `DiffusionSystem.score`; the first `task.num_context` frames are read only."""
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
    residual, mu, of_mu = target, None, (None, None, None)
    if encoded.base is not None:
      mu = encoded.base[:, first:]
      # Before the clamp: behind it a prediction out of range would stay there.
      regression = self._error(encoded.context.mu, target, where).mean
      square = losses.masked_mean(
        jnp.square(target - mu), where=where, normalise="selected"
      )
      error = self._error(mu, target, where).per_example
      of_mu = (mu, error, square.per_example)
      if self.train_only == "predictor":
        return Scored(regression, error, error, None, None, *of_mu)
      residual = target - (jax.lax.stop_gradient(mu) if self.stop_gradient else mu)
    x = residual / encoded.scale
    z = process.forward(x, noise.eps, noise.level)
    output = self._apply(
      params, "denoise", z, noise.level, frames, encoded.context, dropout
    )
    scored = self._score(output, x, z, frames, noise, valid)
    total = scored.loss
    if mu is not None and self.regression_weight and not self.train_only:
      total = total + self.regression_weight * regression
    return Scored(total, *scored[1:], *of_mu)

  def _error(self, prediction, target, where) -> losses.Loss:
    error = target - prediction
    error = jnp.abs(error) if self.objective.norm == "l1" else jnp.square(error)
    return losses.masked_mean(error, where=where, normalise="selected")

  def _metrics(self, scored, frames, level, valid) -> dict[str, jax.Array]:
    metrics = super()._metrics(scored, frames, level, valid)
    if scored.mu is not None:
      # A clamped prediction has no gradient: if all of them are, it stays so.
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
  """The noise of the frames from `first` on; a level [B] is that of all frames."""
  noise = noise._replace(eps=noise.eps[:, first:])
  if noise.level.logsnr.ndim == 1:
    return noise
  level = jax.tree.map(lambda a: a[:, first:], noise.level)
  step = None if noise.step is None else noise.step[:, first:]
  return noise._replace(level=level, step=step)


def build(config: Mapping[str, Any]) -> RvdSystem:
  """Builds the system of a config with `config.system = 'rvd'`.

  Raises:
    UserError: the frame does not fit the networks, or a field has no such value.
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
  if shared["plan"] == "rollout":
    shared["plan_options"] = {"context": task.num_context, **shared["plan_options"]}
  return RvdSystem(
    network=rvd.RvdNetwork(network),
    threshold_bound=(
      None if network.estimate_frame else RESIDUAL_BOUND / network.residual_scale
    ),
    min_given=task.num_context,
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
