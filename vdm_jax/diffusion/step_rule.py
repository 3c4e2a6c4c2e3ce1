"""Step rules, by which a sampler gets from one level to the next.

A sampler is a frozen dataclass. Its `plan` lists the levels at which the network is
called and the target of each step; its `step` is the rule. It is given estimates and
knows neither the network nor guidance.
"""

import dataclasses
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vdm_jax.diffusion import noise as noise_lib
from vdm_jax.diffusion import process
from vdm_jax.diffusion.process import Estimate
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError


@flax.struct.dataclass
class Step:
  """One network call and the step after it; a plan has a leading axis [E].

  Attributes:
    level: level of the network call.
    target: level that the step leads to.
    last: whether this is the last step.
    extra: whether the step is of the sampler's second kind, if it has one.
  """

  level: Level
  target: Level
  last: Bool[Array, "*e"]
  extra: Bool[Array, "*e"]


class Sampler(Protocol):
  """The interface that `sample` needs."""

  def plan(self, grid: Level) -> Step:
    """Makes the steps [E] for a grid of levels [N + 1]."""

  def draw(self, source: noise_lib.Source | None, shape: tuple[int, ...]) -> Any:
    """Draws the noise of one step, in the form that `step` takes."""

  def init(self, z: Float[Array, "b ..."], steps: Step) -> Any:
    """Returns the initial memory, which `step` carries from step to step."""

  def step(
    self,
    z: Float[Array, "b ..."],
    estimate: Estimate,
    step: Step,
    noise: Any,
    memory: Any,
  ) -> tuple[Float[Array, "b ..."], Float[Array, "b ..."], Any]:
    """Computes the next z, the clean video it heads for, and the next memory."""


@dataclasses.dataclass(frozen=True)
class _SingleStep:
  """A sampler with one step per interval of the grid, one noise and no memory."""

  def plan(self, grid: Level) -> Step:
    num_steps = grid.logsnr.shape[0] - 1
    index = jnp.arange(num_steps)
    return Step(grid[:-1], grid[1:], index == num_steps - 1, jnp.zeros(num_steps, bool))

  def draw(self, source, shape):
    return _draw(self, source, shape)

  def init(self, z, steps):
    return None


def _draw(
  sampler: Any, source: noise_lib.Source | None, shape: tuple[int, ...]
) -> Float[Array, "b ..."]:
  if source is None:
    raise UserError(f"sample: {sampler} draws noise: give a key, or the noise itself")
  return noise_lib.normal(source, shape)


def _unit_interval(sampler: Any, name: str) -> None:
  value = getattr(sampler, name)
  if not 0.0 <= value <= 1.0:
    raise UserError(f"{type(sampler).__name__}: {name} must be 0..1, found {value}")


@dataclasses.dataclass(frozen=True)
class Ancestral(_SingleStep):
  """Ancestral sampling (VDM, section 2; Ho et al. 2020, algorithm 2).

  Attributes:
    gamma: place of the log variance between its lower (0, "fixed small") and upper (1,
      "fixed large") bound, if the estimate has none. VDM: 0.1, or 0.3 unconditional.
  """

  gamma: float = 0.0

  def __post_init__(self):
    _unit_interval(self, "gamma")

  def step(self, z, estimate, step, noise, memory):
    gamma = self.gamma if estimate.gamma is None else estimate.gamma
    mean, log_variance = process.posterior(
      z, estimate.x, step.level, step.target, gamma
    )
    # Clean data have no noise, whatever the upper bound of the variance is.
    clean = process.expand(process.is_clean(step.target), z.ndim)
    std = jnp.where(clean, 0.0, jnp.exp(0.5 * log_variance))
    return mean + std * noise, estimate.x, memory


@dataclasses.dataclass(frozen=True)
class Ddim(_SingleStep):
  """DDIM (Song et al. 2021, eq. 12): eta 0 is deterministic, 1 is `Ancestral(0)`."""

  eta: float = 0.0

  def __post_init__(self):
    _unit_interval(self, "eta")

  def draw(self, source, shape):
    return _draw(self, source, shape) if self.eta else None

  def step(self, z, estimate, step, noise, memory):
    t, s = (process.expand(a.logsnr, z.ndim) for a in (step.level, step.target))
    # The fraction eta^2 (1 - exp(t - s)) of sigma_s^2 is fresh noise, the rest is kept.
    fresh = -(self.eta**2) * jnp.expm1(t - s)
    kept = (1.0 - self.eta**2) + self.eta**2 * jnp.exp(t - s)
    eps = (z - process.alpha(t) * estimate.x) / process.sigma(t)
    z = process.alpha(s) * estimate.x + process.sigma(s) * jnp.sqrt(kept) * eps
    if self.eta:
      z = z + process.sigma(s) * jnp.sqrt(fresh) * noise
    return z, estimate.x, memory


@dataclasses.dataclass(frozen=True)
class DpmSolverPP2M(_SingleStep):
  """DPM-Solver++(2M), deterministic and of second order (Lu et al. 2022, algorithm 2).

  Attributes:
    second_order_last: whether the last step is of second order, too. By default it is
      of first order: it is many times longer in log SNR than the one before, so that
      second order extrapolates too far. It is not for discrete schedules, whose last
      step has no finite length.
  """

  second_order_last: bool = False

  def draw(self, source, shape):
    return None

  def init(self, z, steps):
    # There is no previous estimate: an infinitely long previous step gives first order.
    return jnp.zeros_like(z), jnp.full_like(steps.level.logsnr[0], -jnp.inf)

  def step(self, z, estimate, step, noise, memory):
    previous_x, previous = memory
    t, s = step.level.logsnr, step.target.logsnr
    ratio = (s - t) / (2.0 * (t - previous))
    if not self.second_order_last:
      ratio = jnp.where(step.last, 0.0, ratio)
    extrapolated = estimate.x + process.expand(ratio, z.ndim) * (
      estimate.x - previous_x
    )
    s, h = (process.expand(a, z.ndim) for a in (s, 0.5 * (s - t)))
    decay = jnp.exp(
      0.5 * (jax.nn.log_sigmoid(-s) - process.expand(jax.nn.log_sigmoid(-t), z.ndim))
    )
    z = decay * z - process.alpha(s) * jnp.expm1(-h) * extrapolated
    return z, extrapolated, (estimate.x, step.level.logsnr)


@dataclasses.dataclass(frozen=True)
class LangevinCorrector(_SingleStep):
  """Ancestral steps, each but the last followed by a Langevin correction (VDM).

  A correction stays at its level and costs one more network call: 2 N - 1 in all.

  Attributes:
    gamma: see `Ancestral`.
    delta: step size of the correction; the paper's is 0.1.
  """

  gamma: float = 0.0
  delta: float = 0.1

  def __post_init__(self):
    _unit_interval(self, "gamma")
    _unit_interval(self, "delta")

  def plan(self, grid):
    # The levels of the calls are 0 1 1 2 2 ...: after the first call, corrections
    # (whose target is their own level) alternate with predictions.
    num_calls = 2 * grid.logsnr.shape[0] - 3
    call = jnp.arange(num_calls)
    return Step(
      grid[(call + 1) // 2],
      grid[call // 2 + 1],
      call == num_calls - 1,
      call % 2 == 1,
    )

  def step(self, z, estimate, step, noise, memory):
    def predict():
      return Ancestral(self.gamma).step(z, estimate, step, noise, memory)[0]

    def correct():
      s = process.expand(process.sigma(step.level.logsnr), z.ndim)
      eps = process.from_x("eps", estimate.x, z, step.level)
      return z - (self.delta / 2) * s * eps + jnp.sqrt(self.delta) * s * noise

    z = jax.lax.cond(step.extra, correct, predict)
    return z, estimate.x, memory


@dataclasses.dataclass(frozen=True)
class Resample:
  """Repeats each step of another sampler `rounds` times (RePaint; used by RaMViD).

  After every round but the last, z is diffused back by one step of the forward
  process. Its noise is a pair: that of the step, and that of the step back.

  Attributes:
    sampler: the sampler to repeat, `Ancestral` or `Ddim`.
    rounds: how often each step is taken; 1 is the sampler itself.
  """

  sampler: Ancestral | Ddim
  rounds: int

  def __post_init__(self):
    if self.rounds < 1 or not isinstance(self.sampler, Ancestral | Ddim):
      raise UserError(
        "Resample: expected Ancestral or Ddim and at least one round, "
        f"found {self.sampler} and {self.rounds}"
      )

  def plan(self, grid):
    steps = self.sampler.plan(grid)
    num_steps = steps.last.shape[0]
    steps = jax.tree.map(lambda a: jnp.repeat(a, self.rounds, axis=0), steps)
    again = jnp.tile(jnp.arange(self.rounds) < self.rounds - 1, num_steps)
    return steps.replace(extra=again, last=steps.last & ~again)

  def draw(self, source, shape):
    if source is None or isinstance(source, tuple):
      forth, back = source or (None, None)
    else:
      forth, back = (noise_lib.fold(source, way) for way in (0, 1))
    back = _draw(self, back, shape) if self.rounds > 1 else None
    return self.sampler.draw(forth, shape), back

  def init(self, z, steps):
    return self.sampler.init(z, steps)

  def step(self, z, estimate, step, noise, memory):
    forth, back = noise
    z, x, memory = self.sampler.step(z, estimate, step, forth, memory)
    if self.rounds > 1:
      noisy = process.transition(z, back, step.target, step.level)
      z = jnp.where(step.extra, noisy, z)
    return z, x, memory
