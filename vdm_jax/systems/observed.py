"""How observed frames enter a model: the papers know three ways.

One object a way says what noising does to observed frames, and what sampling wraps
around the network; generic code calls it and never asks which paper it serves.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vdm_jax.diffusion import guidance, process
from vdm_jax.diffusion.process import Denoiser
from vdm_jax.diffusion.sampler import Constrain
from vdm_jax.diffusion.schedule import Level


class Sampling(NamedTuple):
  """What sampling does for observed frames.

  Attributes:
    constrain: runs on z before every network call; None for nothing.
    towards: what guidance moves the estimate towards.
  """

  constrain: Constrain | None = None
  towards: Sequence[guidance.Observation] = ()


@dataclasses.dataclass(frozen=True)
class ByNetwork:
  """The network's `encode` is given observed frames (FDM, RVD).

  Attributes:
    told: the network learns of observed frames in training.
  """

  told = True

  def noised(
    self,
    x: jax.Array,
    eps: jax.Array,
    level: Level,
    given: jax.Array,
    observed: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Diffuses what the network is trained on.

    Args:
      x: clean, [B, T, H, W, C].
      eps: standard normal.
      level: [B] or [B, T].
      given: observed frames as the network is shown them, of x's shape.
      observed: bool [B, T].

    Returns:
      z, and the noise that the network should find in it.
    """
    del given, observed
    return process.forward(x, eps, level), eps

  def denoiser(
    self, denoiser: Denoiser, given: jax.Array, observed: jax.Array
  ) -> Denoiser:
    """The denoiser of any z, with observed frames in it as the network wants them."""
    del given, observed
    return denoiser

  def sampling(self, given: jax.Array, observed: jax.Array, weight: float) -> Sampling:
    """What sampling does for observed frames.

    Args:
      given: [B, T, H, W, C], what is diffused of observed frames.
      observed: bool [B, T].
      weight: of reconstruction guidance, for networks that are not told.
    """
    del given, observed, weight
    return Sampling()


@dataclasses.dataclass(frozen=True)
class Pasted(ByNetwork):
  """Observed frames stand clean among the noisy ones (RaMViD)."""

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
class ByGuidance(ByNetwork):
  """The network is not told of observed frames; the sampler puts them in (VDM)."""

  told = False

  def sampling(self, given, observed, weight):
    towards = [guidance.given_frames(given, observed, weight)] if weight else []
    return Sampling(guidance.replacement(given, observed), towards)
