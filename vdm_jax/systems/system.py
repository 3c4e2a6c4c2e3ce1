"""The system that all four papers share: a network, a diffusion and a task."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import frames as frames_lib
from vdm_jax import plans
from vdm_jax.diffusion import bound, process, sampler
from vdm_jax.diffusion import loss as losses
from vdm_jax.diffusion import schedule as schedules
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models.network import Network
from vdm_jax.pixels import to_float
from vdm_jax.systems.observed import ByNetwork, HowObserved
from vdm_jax.systems.parts import CondSpec, Noise, Objective, Scored
from vdm_jax.tasks import Task

# Edges of the log-SNR bands by which the loss is reported.
BANDS = (-np.inf, -10.0, -5.0, 0.0, 5.0, 10.0, np.inf)


@dataclasses.dataclass(frozen=True)
class DiffusionSystem:
  """A paper's network, diffusion and task, with pure functions of parameters.

  Attributes:
    network: Linen module, see `models.network.Network`.
    schedule: schedule of noise levels.
    objective: how a prediction is scored.
    task: training distribution over frames.
    frame_shape: (H, W, C).
    cond: conditioning signals that the network takes.
    observed: how observed frames enter.
    window: number of frames that sampling takes at a time.
    stride: distance between neighbouring frames of a sampled video, in source frames.
    gamma: variance of the reverse process in the bound, if it is not learned.
    threshold_bound: sampling clips estimated residuals to +- this; None clips the
      frames that they imply to [-1, 1].
    plan: name of the default sampling plan.
    plan_options: options of that plan.
    min_given: number of frames that a video must start with for a model trained like
      this; samples during training are given as many.
    windows: which frames a sampled window may hold.
    given_noise: training adds noise to observed frames, with a standard deviation drawn
      uniformly from 0 to this, because long videos observe the model's own, imperfect
      frames.
    learned_variance: whether the network predicts the reverse process's variance, too.
  """

  network: Network
  schedule: schedules.ContinuousSchedule | schedules.DiscreteSchedule
  objective: Objective
  task: Task
  frame_shape: tuple[int, int, int]
  cond: CondSpec = CondSpec()
  observed: HowObserved = ByNetwork()
  window: int = 1
  stride: int = 1
  gamma: float = 0.0
  threshold_bound: float | None = 1.0
  plan: str = "blocks"
  plan_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  min_given: int = 0
  windows: plans.Windows = plans.AnyFrames()
  given_noise: float = 0.0
  learned_variance: bool = False
  # See `registry.System`.
  can_sample = True
  pipeline_extras = ()

  def __post_init__(self):
    if self.given_noise < 0 or (self.given_noise and not self.observed.told):
      raise UserError(
        f"config.diffusion.given_noise: found {self.given_noise}, expected "
        + (">= 0" if self.observed.told
           else "0: this network is not told of given frames")
      )  # fmt: skip
    discrete = isinstance(self.schedule, schedules.DiscreteSchedule)
    if self.objective.kind == "kl" and not discrete:
      raise UserError(
        "config.diffusion.kind: 'kl' needs a discrete schedule (linear_steps or "
        "cosine_steps)"
      )
    if self.learned_variance and not discrete:
      raise UserError(
        "config.model.learn_variance: needs a discrete schedule (linear_steps or "
        "cosine_steps)"
      )

  def batch_spec(self, batch_size: int) -> dict[str, Any]:
    """Describes shapes and dtypes of a training batch."""
    b, t = batch_size, self.task.num_frames
    return {
      "video": jax.ShapeDtypeStruct((b, t, *self.frame_shape), jnp.uint8),
      "frames": frames_lib.spec(b, t),
      "cond": self.cond.shapes(b, self.task.num_sources),
    }

  @property
  def pipeline_cond(self) -> tuple[str, ...]:
    """Lists the signals that the input pipeline must deliver."""
    label = ("label",) if self.cond.num_labels else ()
    return label + (("tokens",) if self.cond.token_dim else ())

  def init(self, key: jax.Array) -> Any:
    """Makes float32 parameters."""
    batch = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.batch_spec(1)
    )
    level = self.schedule.sample(jnp.full(1, 0.5))
    video = to_float(batch["video"])
    variables = self.network.init(key, video, level, batch["frames"], batch["cond"])
    return variables["params"]

  def loss(
    self, params: Any, batch: Mapping[str, Any], key: jax.Array, train: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the training loss of a batch and its metrics, each [total, count].

    Noise levels are stratified over the global batch (Kingma et al. 2021,
    appendix I.1); every draw depends on an example's place in the global batch.

    Args:
      params: parameters of the network.
      batch: a batch as in `batch_spec`, with `example` and `stratum` (see
        `training.program.Trainable`).
      key: key of this step.
      train: whether to apply dropout and to hide conditioning signals.
    """
    video, frames, cond = to_float(batch["video"]), batch["frames"], batch["cond"]
    time_key, noise_key, drop_key, dropout_key = jax.random.split(key, 4)

    def keys(key):
      return jax.vmap(jax.random.fold_in, (None, 0))(key, batch["example"])

    def per_example(key, draw):
      return jax.vmap(draw)(keys(key))

    u = jnp.mod(jax.random.uniform(time_key) + batch["stratum"], 1.0)
    eps = per_example(noise_key, lambda k: jax.random.normal(k, video.shape[1:]))
    dropout, seen = None, video
    if train:
      dropout = keys(dropout_key)
      if cond and self.cond.drop:
        groups = (self.task.num_sources,)
        hidden = per_example(
          drop_key, lambda k: jax.random.bernoulli(k, self.cond.drop, groups)
        )
        cond = self.cond.hide(cond, hidden)
      if self.given_noise:
        seen = self._worn(video, frames, jax.random.fold_in(key, 4), per_example)
    noise = self.noise(u, eps)
    # Validation pads its last batch with rows that do not count.
    valid = batch.get("valid", jnp.ones(len(u), bool))
    scored = self.score(
      params, video, frames, cond, noise, seen=seen, valid=valid, dropout=dropout
    )
    return scored.loss, self._metrics(scored, frames, noise.level, valid)

  def _worn(self, video, frames, key, per_example):
    """Adds noise of a uniformly drawn strength to the observed frames of a video."""

    def draw(key):
      strength, noise = jax.random.split(key)
      noise = jax.random.normal(noise, video.shape[1:])
      return jax.random.uniform(strength) * self.given_noise * noise

    given = process.expand(frames.observed, video.ndim)
    return jnp.where(given, video + per_example(key, draw), video)

  def noise(self, u: jax.Array, eps: jax.Array) -> Noise:
    """Makes the noise for uniform times u in [0, 1)."""
    if isinstance(self.schedule, schedules.DiscreteSchedule):
      step = self.schedule.step(u)
      return Noise(self.schedule.level(step), eps, step)
    return Noise(self.schedule.sample(u), eps)

  def score(
    self,
    params: Any,
    video: jax.Array,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    noise: Noise,
    *,
    seen: jax.Array | None = None,
    valid: jax.Array | None = None,
    dropout: jax.Array | None = None,
  ) -> Scored:
    """Computes the loss at given noise; deterministic unless there is dropout.

    Args:
      params: parameters of the network.
      video: float32 [B, T, H, W, C] in [-1, 1].
      frames: roles of the frames, [B, T].
      cond: conditioning signals.
      noise: noise that diffuses the video.
      seen: the video whose observed frames the network takes; None for `video`.
      valid: bool [B], examples that count; None for all.
      dropout: a dropout key per example [B]; None for no dropout.
    """
    seen = video if seen is None else seen
    encoded = self._apply(params, "encode", seen, frames, cond)
    x = encoded.residual(video)
    z, eps = self.observed.noised(
      x, noise.eps, noise.level, encoded.residual(seen), frames.observed
    )
    output = self._apply(
      params, "denoise", z, noise.level, frames, encoded.context, dropout
    )
    valid = jnp.ones(len(x), bool) if valid is None else valid
    return self._score(output, x, z, frames, noise._replace(eps=eps), valid)

  def _score(self, output, x, z, frames, noise, valid) -> Scored:
    o = self.objective
    everywhere = jnp.ones_like(frames.latent)
    where = {"latent": frames.latent, "unobserved": ~frames.observed}
    where = where.get(o.where, everywhere) & valid[:, None]
    prediction, gamma = process.split_output(output, x.shape[-1])
    if o.kind == "kl" or gamma is not None:
      estimate = process.from_output(o.predict, output, z, noise.level)
    if o.kind == "kl":
      bits = bound.step_bits(
        self.schedule, noise.step, x, z, estimate, gamma=self.gamma
      )
      error = bits * self.schedule.num_steps
    else:
      error = losses.denoising_error(
        o.predict,
        prediction,
        x,
        noise.eps,
        noise.level,
        space=o.space,
        weighting=losses.WEIGHTINGS[o.weighting](),
        norm=o.norm,
      )
    total, per_example = losses.masked_mean(error, where=where, normalise=o.normalise)
    if gamma is not None and o.kind != "kl":
      variance = bound.learned_variance_loss(
        self.schedule,
        noise.step,
        x,
        z,
        estimate,
        where=where,
        normalise=o.normalise,
      )
      total, per_example = total + variance.mean, per_example + variance.per_example
    latent = losses.masked_mean(
      error, where=frames.latent, normalise="example"
    ).per_example
    return Scored(total, per_example, latent, z, output)

  def _metrics(self, scored, frames, level, valid) -> dict[str, jax.Array]:
    def mean_where(values, chosen):
      count = jnp.sum(chosen.astype(jnp.float32))
      return jnp.stack([jnp.sum(jnp.where(chosen, values, 0.0)), count])

    metrics = {"loss": mean_where(scored.per_example, valid)}
    if self.objective.where != "latent":
      some = valid & frames.latent.any(axis=1)
      metrics["loss_latent"] = mean_where(scored.latent, some)
    # Frames with a level each do not share a band.
    if level.logsnr.ndim == 1:
      for low, high in zip(BANDS, BANDS[1:], strict=False):
        inside = (level.logsnr >= low) & (level.logsnr < high)
        name = f"loss_logsnr_{low:g}_{high:g}"
        metrics[name] = mean_where(scored.per_example, inside & valid)
    return metrics

  def encode(self, params, video, frames: Frames, cond, state=None):
    """Runs `Network.encode`, once per window; see `models.network.Encoded`."""
    return self._apply(params, "encode", video, frames, cond, state)

  def denoiser(self, params, frames: Frames, context) -> sampler.Denoiser:
    """Makes the denoiser of a window: (z, level) -> Estimate."""

    def denoise(z, level):
      level = jax.tree.map(lambda a: jnp.broadcast_to(a, z.shape[:1]), level)
      output = self._apply(params, "denoise", z, level, frames, context)
      return process.from_output(self.objective.predict, output, z, level)

    return denoise

  def _apply(self, params, method, *args):
    return self.network.apply({"params": params}, *args, method=method)
