"""Parts of a system beside its network: objective, noise, conditioning signals."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp

from vdm_jax import errors
from vdm_jax.diffusion import loss as losses
from vdm_jax.diffusion import process, schedule

WHERE = ("latent", "unobserved", "all")
LOSSES = ("mse", "kl")


@dataclasses.dataclass(frozen=True)
class Objective:
  """How a prediction is scored; see `diffusion.loss`.

  Attributes:
    predict: what the network predicts: 'x', 'eps', 'v' or 'flow'.
    space: in which of these the error is measured.
    weighting: name of the weighting of noise levels.
    norm: 'l2' or 'l1'.
    where: which frames count: 'latent', 'unobserved' (including padding) or 'all'.
    normalise: how the error is averaged: 'selected', 'example' or 'all'.
    kind: 'mse', the error of the prediction; or 'kl', the bound's term at the drawn
      step of a discrete schedule, in bits and times the number of steps, which uses
      only `predict`, `where` and `normalise` of the other fields.
  """

  predict: str
  space: str
  weighting: str = "simple"
  norm: str = "l2"
  where: str = "latent"
  normalise: str = "selected"
  kind: str = "mse"

  def __post_init__(self):
    process.check_predict(self.predict)
    process.check_predict(self.space)
    if self.weighting not in losses.WEIGHTINGS:
      raise errors.unknown(
        "config.diffusion.weighting", self.weighting, losses.WEIGHTINGS
      )
    if self.where not in WHERE:
      raise errors.unknown("config.diffusion.where", self.where, WHERE)
    for name, known in (("norm", losses.Norm), ("normalise", losses.Normalise)):
      if getattr(self, name) not in get_args(known):
        raise errors.unknown(
          f"config.diffusion.{name}", getattr(self, name), get_args(known)
        )
    if self.kind not in LOSSES:
      raise errors.unknown("config.diffusion.kind", self.kind, LOSSES)


class Noise(NamedTuple):
  """The noise of a batch.

  Attributes:
    level: noise level of shape [B] or [B, T].
    eps: standard normal noise [B, T, H, W, C].
    step: step of a discrete schedule, int32 of level's shape; None for a continuous
      one.
  """

  level: schedule.Level
  eps: jax.Array
  step: jax.Array | None = None


class Scored(NamedTuple):
  """A batch's loss and what it was computed from.

  Attributes:
    loss: the scalar loss.
    per_example: [B], see `diffusion.loss.Loss`.
    latent: [B], the loss of latent frames only, averaged per example.
    z: [B, T, H, W, C], the network's input.
    output: the network's output.
  """

  loss: jax.Array
  per_example: jax.Array
  latent: jax.Array
  z: jax.Array
  output: jax.Array


@dataclasses.dataclass(frozen=True)
class CondSpec:
  """Which conditioning signals the network takes.

  Attributes:
    num_labels: number of classes; 0 for no label.
    token_dim: width of text tokens; 0 for no text.
    max_tokens: number of tokens that a caption is cut or padded to.
    drop: probability that training hides the signals of a group.
  """

  num_labels: int = 0
  token_dim: int = 0
  max_tokens: int = 0
  drop: float = 0.0

  def shapes(self, batch: int, groups: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Describes the `cond` part of a batch."""
    spec = {}
    if self.num_labels:
      spec["label"] = jax.ShapeDtypeStruct((batch, groups), jnp.int32)
    if self.token_dim:
      rows = (batch, groups, self.max_tokens)
      spec["tokens"] = jax.ShapeDtypeStruct((*rows, self.token_dim), jnp.bfloat16)
      spec["token_mask"] = jax.ShapeDtypeStruct(rows, jnp.bool_)
    return spec

  def hide(self, cond: Mapping[str, jax.Array], hidden: jax.Array):
    """Removes the signals of the groups `hidden`, bool [B, G]."""
    cond = dict(cond)
    if "label" in cond:
      cond["label"] = jnp.where(hidden, -1, cond["label"])
    if "token_mask" in cond:
      cond["token_mask"] = cond["token_mask"] & ~hidden[..., None]
    return cond

  def hide_all(self, cond: Mapping[str, jax.Array]):
    """Removes all signals, for unconditional sampling."""
    return jax.tree.map(
      lambda leaf: (
        jnp.full_like(leaf, -1) if leaf.dtype == jnp.int32 else jnp.zeros_like(leaf)
      ),
      dict(cond),
    )
