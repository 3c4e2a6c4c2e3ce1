"""How observed frames enter a model: the three ways of the papers.

For each way, an object defines what noising does to observed frames and what sampling
wraps around the network. Generic code calls it and never asks which paper it serves.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vdm_jax.diffusion import guidance, process
from vdm_jax.diffusion.process import Denoiser
from vdm_jax.diffusion.sampler import Constrain
from vdm_jax.diffusion.schedule import Level


class Sampling(NamedTuple):
  """Additions to sampling for the sake of observed frames.

  Attributes:
    constrain: applied to z before every network call; None for nothing.
    towards: observations that guidance moves the estimate towards.
  """

  constrain: Constrain | None = None
  towards: Sequence[guidance.Observation] = ()


class HowObserved(Protocol):
  """How observed frames enter; by default neither z nor sampling holds them.

  Attributes:
    told: whether the network takes observed frames in training.
  """

  told: bool

  def noised(
    self,
    x: jax.Array,
    eps: jax.Array,
    level: Level,
    given: jax.Array,
    observed: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Diffuses the input of a training step.

    Args:
      x: clean video [B, T, H, W, C].
      eps: standard normal noise of x's shape.
      level: noise level of shape [B] or [B, T].
      given: observed frames in the form that the network takes, of x's shape.
      observed: bool [B, T], which frames are observed.

    Returns:
      z, and the noise that the network should predict from it.
    """
    del given, observed
    return process.forward(x, eps, level), eps

  def denoiser(
    self, denoiser: Denoiser, given: jax.Array, observed: jax.Array
  ) -> Denoiser:
    """Wraps a denoiser so that z holds observed frames in the network's form."""
    del given, observed
    return denoiser

  def sampling(self, given: jax.Array, observed: jax.Array, weight: float) -> Sampling:
    """Returns what sampling adds for observed frames.

    Args:
      given: [B, T, H, W, C], the residuals (see `Encoded`) of observed frames.
      observed: bool [B, T], which frames are observed.
      weight: weight of reconstruction guidance, for networks that are not told.
    """
    del given, observed, weight
    return Sampling()


@dataclasses.dataclass(frozen=True)
class ByNetwork(HowObserved):
  """Observed frames are input of the network's `encode` (FDM, RVD)."""

  told = True


@dataclasses.dataclass(frozen=True)
class Pasted(HowObserved):
  """Observed frames are clean frames of z among the noisy ones (RaMViD)."""

  told = True

  def noised(self, x, eps, level, given, observed):
    where = process.expand(observed, x.ndim)
    # Clean frames have no noise to predict.
    eps = jnp.where(where, 0.0, eps)
    return jnp.where(where, given, process.forward(x, eps, level)), eps

  def denoiser(self, denoiser, given, observed):
    paste = guidance.pasting(given, observed)
    return lambda z, level: denoiser(paste(z, level, None), level)

  def sampling(self, given, observed, weight):
    return Sampling(guidance.pasting(given, observed))


@dataclasses.dataclass(frozen=True)
class ByGuidance(HowObserved):
  """Observed frames enter by guidance of the sampler, not by the network (VDM)."""

  told = False

  def sampling(self, given, observed, weight):
    towards = [guidance.given_frames(given, observed, weight)] if weight else []
    return Sampling(guidance.replacement(given, observed), towards)
