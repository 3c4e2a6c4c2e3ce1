"""What all four papers share: a network under a diffusion, trained by a task."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import errors
from vdm_jax.diffusion import loss as losses
from vdm_jax.diffusion import process, sampler, schedule
from vdm_jax.frames import Frames
from vdm_jax.models.network import Network
from vdm_jax.pixels import to_float
from vdm_jax.tasks import Task

# Edges of the log-SNR bands in which the loss is reported.
BANDS = (-np.inf, -10.0, -5.0, 0.0, 5.0, 10.0, np.inf)


@dataclasses.dataclass(frozen=True)
class Objective:
  """How a prediction is scored; see `diffusion.loss`.

  Attributes:
    predict: what the network's output is: 'x', 'eps' or 'v'.
    space: in which of the three the error is taken.
    weighting: named weighting of the noise levels.
    norm: 'l2' or 'l1'.
    where: which frames count: 'latent', or 'unobserved' (padding too).
    normalise: how the error is averaged: 'selected', 'example' or 'all'.
  """

  predict: str
  space: str
  weighting: str = "simple"
  norm: str = "l2"
  where: str = "latent"
  normalise: str = "selected"

  def __post_init__(self):
    process.check_kind(self.predict)
    process.check_kind(self.space)
    if self.weighting not in losses.WEIGHTINGS:
      raise errors.unknown(
        "config.diffusion.weighting", self.weighting, losses.WEIGHTINGS
      )


@dataclasses.dataclass(frozen=True)
class CondSpec:
  """Which conditioning signals the network takes.

  Attributes:
    num_labels: classes; 0 for no label.
    token_dim: width of text tokens; 0 for no text.
    max_tokens: tokens a caption is cut or padded to.
    drop: probability that training hides an example's signals.
  """

  num_labels: int = 0
  token_dim: int = 0
  max_tokens: int = 0
  drop: float = 0.0

  def shapes(self, batch: int, groups: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The `cond` part of a batch."""
    spec = {}
    if self.num_labels:
      spec["label"] = jax.ShapeDtypeStruct((batch, groups), jnp.int32)
    if self.token_dim:
      rows = (batch, groups, self.max_tokens)
      spec["tokens"] = jax.ShapeDtypeStruct((*rows, self.token_dim), jnp.float32)
      spec["token_mask"] = jax.ShapeDtypeStruct(rows, jnp.bool_)
    return spec

  def hide(self, cond: Mapping[str, jax.Array], hidden: jax.Array):
    """The signals with those of the groups `hidden` [B, G] taken away."""
    cond = dict(cond)
    if "label" in cond:
      cond["label"] = jnp.where(hidden, -1, cond["label"])
    if "token_mask" in cond:
      cond["token_mask"] = cond["token_mask"] & ~hidden[..., None]
    return cond

  def hide_all(self, cond: Mapping[str, jax.Array]):
    """The signals of unconditional sampling."""
    return jax.tree.map(
      lambda leaf: (
        jnp.full_like(leaf, -1) if leaf.dtype == jnp.int32 else jnp.zeros_like(leaf)
      ),
      dict(cond),
    )


@dataclasses.dataclass(frozen=True)
class DiffusionSystem:
  """A paper: network, diffusion, task; pure functions of parameters.

  Attributes:
    network: Linen module, see `models.network.Network`.
    schedule: of noise levels.
    objective: how a prediction is scored.
    task: training distribution over frames.
    frame_shape: (H, W, C).
    cond: conditioning signals.
    observed_by: how observed frames enter at sampling: 'network' if it takes them
      as input, 'guidance' if the sampler must put them in (VDM).
    window: frames that sampling takes at a time.
    stride: distance in source frames of neighbouring frames of a sampled video.
  """

  network: Network
  schedule: schedule.CosineSchedule | schedule.DiscreteSchedule
  objective: Objective
  task: Task
  frame_shape: tuple[int, int, int]
  cond: CondSpec = CondSpec()
  observed_by: str = "network"
  window: int = 1
  stride: int = 1

  def batch_spec(self, batch_size: int) -> dict[str, Any]:
    """Shapes and dtypes of a training batch."""
    b, t = batch_size, self.task.num_frames

    def rows(dtype):
      return jax.ShapeDtypeStruct((b, t), dtype)

    return {
      "video": jax.ShapeDtypeStruct((b, t, *self.frame_shape), jnp.uint8),
      "frames": Frames(
        index=rows(jnp.int32),
        observed=rows(jnp.bool_),
        latent=rows(jnp.bool_),
        group=rows(jnp.int32),
      ),
      "cond": self.cond.shapes(b, self.task.num_sources),
    }

  @property
  def pipeline_cond(self) -> tuple[str, ...]:
    """Which signals the input pipeline must deliver."""
    label = ("label",) if self.cond.num_labels else ()
    return label + (("tokens",) if self.cond.token_dim else ())

  def init(self, key: jax.Array) -> Any:
    """Float32 parameters."""
    batch = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.batch_spec(1)
    )
    level = self.schedule.sample(jnp.full(1, 0.5))
    video = to_float(batch["video"])
    variables = self.network.init(
      key, video, level, batch["frames"], batch["cond"], False
    )
    return variables["params"]

  def loss(
    self, params: Any, batch: Mapping[str, Any], key: jax.Array, train: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The training loss of a batch and [total, count] metrics.

    Noise levels are stratified over the global batch (Kingma et al. 2021,
    appendix I.1); every draw belongs to an example's place in the global batch.

    Args:
      params: of the network.
      batch: as `batch_spec`, with `example` and `stratum` (see
        `training.program.Trainable`).
      key: of this step.
      train: dropout, and hiding of conditioning signals.
    """
    video, frames, cond = to_float(batch["video"]), batch["frames"], batch["cond"]
    time_key, noise_key, drop_key, dropout_key = jax.random.split(key, 4)

    def per_example(key, draw):
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["example"])
      return jax.vmap(draw)(keys)

    u = jnp.mod(jax.random.uniform(time_key) + batch["stratum"], 1.0)
    level = self.schedule.sample(u)
    eps = per_example(noise_key, lambda k: jax.random.normal(k, video.shape[1:]))
    rngs = None
    if train:
      rngs = {"dropout": dropout_key}
      if cond and self.cond.drop:
        groups = (self.task.num_sources,)
        hidden = per_example(
          drop_key, lambda k: jax.random.bernoulli(k, self.cond.drop, groups)
        )
        cond = self.cond.hide(cond, hidden)

    encoded = self._apply(params, "encode", video, frames, cond, rngs=rngs)
    x = video if encoded.base is None else video - encoded.base
    z = process.forward(x, eps, level)
    output = self._apply(
      params, "denoise", z, level, frames, encoded.context, train, rngs=rngs
    )
    # Validation fills its last batch with rows that do not count.
    valid = batch.get("valid", jnp.ones(len(u), bool))
    return self._score(output, x, eps, level, frames, valid)

  def _score(self, output, x, eps, level, frames, valid):
    o = self.objective
    where = frames.latent if o.where == "latent" else ~frames.observed
    where = where & valid[:, None]
    total, per_example = losses.denoising_loss(
      o.predict,
      output,
      x,
      eps,
      level,
      where=where,
      normalise=o.normalise,
      space=o.space,
      weighting=losses.WEIGHTINGS[o.weighting](),
      norm=o.norm,
    )

    def mean_where(chosen):
      count = jnp.sum(chosen.astype(jnp.float32))
      return jnp.stack([jnp.sum(jnp.where(chosen, per_example, 0.0)), count])

    metrics = {"loss": mean_where(valid)}
    for low, high in zip(BANDS, BANDS[1:], strict=False):
      inside = (level.logsnr >= low) & (level.logsnr < high)
      metrics[f"loss_logsnr_{low:g}_{high:g}"] = mean_where(inside & valid)
    return total, metrics

  def encode(self, params, video, frames: Frames, cond, state=None):
    """`Network.encode`: once per window, see `models.network.Encoded`."""
    return self._apply(params, "encode", video, frames, cond, state)

  def denoiser(self, params, frames: Frames, context) -> sampler.Denoiser:
    """The denoiser of a window: (z, level) -> Estimate."""

    def denoise(z, level):
      level = jax.tree.map(lambda a: jnp.broadcast_to(a, z.shape[:1]), level)
      output = self._apply(params, "denoise", z, level, frames, context, False)
      return process.from_output(self.objective.predict, output, z, level)

    return denoise

  def _apply(self, params, method, *args, rngs=None):
    return self.network.apply({"params": params}, *args, method=method, rngs=rngs)
