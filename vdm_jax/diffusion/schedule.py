"""Noise schedules, which map a time or a step to a level of noise.

Everything about noise is a function of `logsnr = log(alpha^2 / sigma^2)`. A schedule
only defines the log SNR at each time and the number that the network is given for it
(its `time` input). Two kinds cover the papers; a third is that of rectified flow:

* `CosineSchedule`: continuous time in [0, 1], 1 is noise (VDM, section 2).
* `StraightSchedule`: the same, along a straight line from data to noise.
* `DiscreteSchedule`: integer steps with a list of betas (FDM, RaMViD, RVD), that is, a
  table of levels. Step 0 is the cleanest.

Tables and grids are built on the host in float64 and rounded once, at the end.
"""

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float64, Int

from vdm_jax.diffusion.respacing import retained_steps
from vdm_jax.errors import UserError

# Log SNR of clean data: finite, so that no difference of levels is NaN, and large
# enough that float32 gives alpha = 1 and sigma = 0.
CLEAN_LOGSNR = 250.0


@flax.struct.dataclass
class Level:
  """A level of noise.

  Attributes:
    logsnr: log(alpha^2 / sigma^2), of shape [], [B] or [B, T] (a grid has one more
      leading axis).
    time: the network's input for this level, of the same shape.
  """

  logsnr: Float[Array, "*level"]
  time: Float[Array, "*level"]

  def __getitem__(self, index) -> "Level":
    return jax.tree.map(lambda a: a[index], self)


def stratified_times(u: Float[ArrayLike, ""], batch_size: int) -> Float[Array, " b"]:
  """Computes times that cover [0, 1) evenly: t_i = (u + i / B) mod 1.

  This lowers the variance of a batch's loss by a large factor (Kingma et al. 2021,
  appendix I.1).

  Args:
    u: one uniform number in [0, 1).
    batch_size: size B of the global batch.
  """
  return jnp.mod(u + jnp.arange(batch_size) / batch_size, 1.0)


def network_time(
  logsnr: Float[ArrayLike, "*level"], xp=jnp
) -> Float[Array | np.ndarray, "*level"]:
  """Computes the network's time input, in [0, 1000], for a log SNR clipped to +-20.

  It is the inverse of the cosine schedule, as in the authors' code: nearly uniform
  under that schedule, and defined for every log SNR. `xp` is jnp, or np on the host.
  """
  return 2000.0 / math.pi * xp.arctan(xp.exp(-xp.clip(logsnr, -20.0, 20.0) / 2.0))


@dataclasses.dataclass(frozen=True)
class ContinuousSchedule(abc.ABC):
  """A schedule in continuous time, from data at t = 0 to noise at t = 1.

  Attributes:
    logsnr_min: log SNR at t = 1.
    logsnr_max: log SNR at t = 0.
    shift: added to the log SNR at all times but the two ends; for resolution d use
      2 log(64 / d) (Hoogeboom et al. 2023).
  """

  logsnr_min: float = -20.0
  logsnr_max: float = 20.0
  shift: float = 0.0

  def __post_init__(self):
    if not self.logsnr_min < self.logsnr_max:
      raise UserError(
        "schedule: logsnr_min must be below logsnr_max, found "
        f"{self.logsnr_min} and {self.logsnr_max}"
      )

  @abc.abstractmethod
  def _logsnr(self, t, xp):
    """Computes log SNR at times; `xp` is jnp, or np on the host."""

  @abc.abstractmethod
  def derivative(self, t: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    """Computes d logsnr / dt (negative) at times of any shape."""

  @abc.abstractmethod
  def inverse(self, logsnr: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    """Computes the time that has this log SNR."""

  def logsnr(self, t: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    """Computes log SNR at times in [0, 1] of any shape."""
    return self._logsnr(jnp.asarray(t), jnp)

  def level(self, t: Float[ArrayLike, "*level"]) -> Level:
    """Computes the level at times in [0, 1] of any shape."""
    logsnr = self.logsnr(t)
    return Level(logsnr, network_time(logsnr))

  def sample(self, u: Float[ArrayLike, "*level"]) -> Level:
    """Makes a random level for training, from uniform u in [0, 1)."""
    return self.level(u)

  def grid(self, num_steps: int | None = None) -> Level:
    """Computes levels [N + 1] at times 1, 1 - 1/N, ..., 0.

    Raises:
      UserError: `num_steps` is not a positive integer (a continuous schedule has no
        number of steps of its own).
    """
    if not isinstance(num_steps, int) or num_steps < 1:
      raise UserError(
        f"sampling steps: a continuous schedule needs a count >= 1, found {num_steps!r}"
      )
    logsnr = self._logsnr(np.linspace(1.0, 0.0, num_steps + 1), np)
    return jax.tree.map(jnp.asarray, Level(logsnr, network_time(logsnr, np)))


@dataclasses.dataclass(frozen=True)
class CosineSchedule(ContinuousSchedule):
  """alpha = cos(a t + b), truncated to a range of log SNR (VDM, section 2)."""

  def _angles(self) -> tuple[float, float, float]:
    """Returns slope a, the angle at t=0, and pi/2 minus that at t=1, uncancelled."""
    start = math.atan(math.exp(-(self.logsnr_max - self.shift) / 2))
    end = math.atan(math.exp((self.logsnr_min - self.shift) / 2))
    return math.pi / 2 - start - end, start, end

  def _logsnr(self, t, xp):
    # log tan is accurate for small angles only, so the noisy half of the schedule
    # measures its angle from pi/2, where log tan changes sign. The bounds keep the
    # unused half finite, and with it the gradient.
    slope, start, end = self._angles()
    clean = -2.0 * xp.log(xp.tan(slope * xp.minimum(t, 0.75) + start))
    noisy = 2.0 * xp.log(xp.tan(slope * xp.minimum(1.0 - t, 0.75) + end))
    return xp.where(t < 0.5, clean, noisy) + self.shift

  def derivative(self, t: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    slope, start, end = self._angles()
    t = jnp.asarray(t)
    angle = jnp.where(t < 0.5, slope * t + start, slope * (1.0 - t) + end)
    return -4.0 * slope / jnp.sin(2.0 * angle)

  def inverse(self, logsnr: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    slope, start, end = self._angles()
    half = (jnp.asarray(logsnr) - self.shift) / 2.0
    angle = jnp.arctan(jnp.exp(-jnp.abs(half)))
    return jnp.where(half > 0, (angle - start) / slope, 1.0 - (angle - end) / slope)


@dataclasses.dataclass(frozen=True)
class StraightSchedule(ContinuousSchedule):
  """A straight line from data to noise: rectified flow (Liu et al. 2023, eq. 1).

  z / (alpha + sigma) = (1 - tau) x + tau eps with tau = sigma / (alpha + sigma), so
  that log SNR = 2 log((1 - tau) / tau); tau is linear in t, truncated to a range of log
  SNR. If the network predicts the flow (`process.Predict`), the plain loss is that of
  rectified flow, and a DDIM step is an Euler step along the flow.
  """

  def _ends(self) -> tuple[float, float, float]:
    """Returns tau at t = 0, 1 - tau at t = 1, and the length in between."""
    start = 1.0 / (1.0 + math.exp((self.logsnr_max - self.shift) / 2))
    end = 1.0 / (1.0 + math.exp(-(self.logsnr_min - self.shift) / 2))
    return start, end, 1.0 - start - end

  def _logsnr(self, t, xp):
    start, end, length = self._ends()
    # Both are accurate: neither is a difference of numbers near one.
    return 2.0 * (xp.log(end + length * (1.0 - t)) - xp.log(start + length * t)) + (
      self.shift
    )

  def derivative(self, t: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    start, end, length = self._ends()
    t = jnp.asarray(t)
    return -2.0 * length / ((start + length * t) * (end + length * (1.0 - t)))

  def inverse(self, logsnr: Float[ArrayLike, "*level"]) -> Float[Array, "*level"]:
    start, end, length = self._ends()
    half = (jnp.asarray(logsnr) - self.shift) / 2.0
    small = jax.nn.sigmoid(-jnp.abs(half))
    return jnp.where(half > 0, (small - start) / length, 1.0 - (small - end) / length)


@dataclasses.dataclass(frozen=True, eq=False)
class DiscreteSchedule:
  """A table of levels made from a list of betas (Ho et al. 2020).

  Attributes:
    alphas_cumprod: alpha^2 at every step, decreasing.
    time: the network's time input at every step.
    timestep_map: the step of the original schedule, before respacing.
  """

  alphas_cumprod: Float64[np.ndarray, " n"]
  time: Float64[np.ndarray, " n"]
  timestep_map: Int[np.ndarray, " n"]

  @classmethod
  def from_betas(
    cls, betas: Float[np.ndarray, " n"] | Sequence[float], *, rescale_time: bool = True
  ) -> Self:
    """Makes a schedule from betas in (0, 1).

    Args:
      betas: variance added at each step.
      rescale_time: whether the network's time input is step * 1000 / N
        (improved-diffusion) or the step itself (RVD).
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not betas.size or not (betas > 0).all() or betas.max() >= 1:
      raise UserError(
        "schedule: expected a list of betas strictly between 0 and 1, found shape "
        f"{betas.shape}, range {betas.min(initial=1)} to {betas.max(initial=0)}"
      )
    steps = np.arange(len(betas))
    scale = 1000.0 / len(betas) if rescale_time else 1.0
    return cls(np.cumprod(1.0 - betas), steps * scale, steps)

  @classmethod
  def linear(cls, num_steps: int, *, rescale_time: bool = True) -> Self:
    """Makes a schedule of betas linear from 0.1 / N to 20 / N; N must exceed 20."""
    if num_steps <= 20:
      raise UserError(
        f"schedule: a linear schedule needs more than 20 steps, found {num_steps}; "
        "build a longer one and respace it"
      )
    betas = np.linspace(0.1 / num_steps, 20.0 / num_steps, num_steps)
    return cls.from_betas(betas, rescale_time=rescale_time)

  @classmethod
  def cosine(
    cls,
    num_steps: int,
    *,
    s: float = 0.008,
    max_beta: float = 0.999,
    rescale_time: bool = True,
  ) -> Self:
    """Makes the schedule of Nichol & Dhariwal 2021, eq. 17; betas stop at `max_beta`.

    improved-diffusion and RVD clip at 0.999, lucidrains at 0.9999; RVD does not
    rescale the time.
    """
    u = np.arange(num_steps + 1) / num_steps
    squared_alpha = np.cos((u + s) / (1 + s) * np.pi / 2) ** 2
    betas = np.minimum(1.0 - squared_alpha[1:] / squared_alpha[:-1], max_beta)
    return cls.from_betas(betas, rescale_time=rescale_time)

  @property
  def num_steps(self) -> int:
    return len(self.alphas_cumprod)

  @property
  def betas(self) -> Float64[np.ndarray, " n"]:
    """Returns the betas, 1 - alpha^2_t / alpha^2_{t-1}."""
    previous = np.concatenate([[1.0], self.alphas_cumprod[:-1]])
    return 1.0 - self.alphas_cumprod / previous

  def respace(self, spec: str | int) -> Self:
    """Makes the schedule of fewer steps; see `retained_steps`."""
    kept = np.asarray(retained_steps(self.num_steps, spec))
    return type(self)(
      self.alphas_cumprod[kept], self.time[kept], self.timestep_map[kept]
    )

  def _table(self) -> Level:
    """Returns levels [N + 1]: all steps, then clean data (entry N, or -1)."""
    logsnr = np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)
    return Level(np.append(logsnr, CLEAN_LOGSNR), np.append(self.time, 0.0))

  def level(self, step: Int[ArrayLike, "*level"]) -> Level:
    """Looks up the level of steps 0..N-1 of any shape; step -1 is clean data."""
    return jax.tree.map(lambda a: jnp.asarray(a)[step], self._table())

  def step(self, u: Float[ArrayLike, "*level"]) -> Int[Array, "*level"]:
    """Draws integer steps from uniform u in [0, 1)."""
    step = jnp.floor(u * self.num_steps).astype(jnp.int32)
    return jnp.minimum(step, self.num_steps - 1)

  def sample(self, u: Float[ArrayLike, "*level"]) -> Level:
    """Makes a random level for training, from uniform u in [0, 1)."""
    return self.level(self.step(u))

  def grid(self, num_steps: str | int | None = None) -> Level:
    """Returns levels [N + 1] of all steps, noisiest first, then clean data.

    Args:
      num_steps: None for all steps; else a respacing, see `retained_steps`.
    """
    if num_steps is not None:
      return self.respace(num_steps).grid()
    # Steps N-1, ..., 0, -1: entry -1 of the table is the clean level.
    order = np.arange(self.num_steps - 1, -2, -1)
    return jax.tree.map(lambda a: jnp.asarray(a[order]), self._table())
