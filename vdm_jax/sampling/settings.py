"""Settings of sampling, which are the fields of `config.sampling`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from vdm_jax import errors
from vdm_jax.diffusion import guidance
from vdm_jax.diffusion import sampler as samplers
from vdm_jax.diffusion.schedule import DiscreteSchedule, Level
from vdm_jax.errors import UserError

METHODS = ("", "replacement", "reconstruction")


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
  """Settings of the sampler and of what is wrapped around the denoiser.

  Attributes:
    sampler: 'ancestral', 'ddim', 'dpmpp_2m' or 'langevin' (ancestral steps with
      Langevin corrections).
    steps: number N of intervals of the grid of noise levels; 0 takes every step of a
      discrete schedule.
    respacing: steps of a discrete schedule, in place of `steps`: 'ddim50', or counts of
      equal sections, '10,15,20' (see `diffusion.respacing.retained_steps`).
    gamma: variance of ancestral steps, from the lower bound (0) to the upper one (1).
    eta: noise of 'ddim', from deterministic (0) to ancestral (1).
    langevin_delta: step size of 'langevin'.
    threshold: 'none', 'static' (clip to [-1, 1]) or 'dynamic'.
    percentile: quantile of 'dynamic', a fraction.
    guidance: classifier-free weight w in (1 + w) cond - w uncond; 0 is none.
    method: how given frames condition a model whose network does not take them (VDM):
      by 'replacement', or by 'reconstruction' guidance on top of it; '' is the latter
      if its weight is above 0.
    reconstruction_weight: weight w_r of reconstruction guidance towards observed
      frames; 0 is replacement alone.
    super_resolution_weight: weight w_r per pixel of a guiding low-resolution video; 0
      takes the number of pixels averaged into one, which makes it exact.
    resample: how often each step of 'ancestral' or 'ddim' is taken if frames are given,
      diffusing back in between (RePaint); 1 is once.
    restore_given: whether given frames are returned as they were given, or, as in
      RaMViD's own code, as the network leaves them.
  """

  sampler: str = "ancestral"
  steps: int = 256
  respacing: str = ""
  gamma: float = 0.0
  eta: float = 0.0
  langevin_delta: float = 0.1
  threshold: str = "static"
  percentile: float = 0.995
  guidance: float = 0.0
  method: str = ""
  reconstruction_weight: float = 0.0
  super_resolution_weight: float = 0.0
  resample: int = 1
  restore_given: bool = True

  def __post_init__(self):
    self.make_sampler()
    thresholds = ("none", "static", "dynamic")
    if self.threshold not in thresholds:
      raise errors.unknown(
        "`threshold` (sampling.threshold)", self.threshold, thresholds
      )
    if self.steps < 0:
      raise UserError(f"`steps={self.steps}` (sampling.steps): expected >= 0")
    if self.method not in METHODS:
      raise errors.unknown("`method` (sampling.method)", self.method, METHODS)
    for field in ("guidance", "reconstruction_weight", "super_resolution_weight"):
      if getattr(self, field) < 0:
        raise UserError(
          f"`{field}={getattr(self, field)}` (sampling.{field}): expected >= 0"
        )
    if self.method == "reconstruction" and not self.reconstruction_weight:
      raise UserError(
        "`method=reconstruction` (sampling.method): wants a `reconstruction_weight` "
        "above 0 (the paper: 9 to 50 where few frames are given)"
      )

  @property
  def towards_given(self) -> float:
    """Returns the weight of reconstruction guidance; 0 for replacement alone."""
    return 0.0 if self.method == "replacement" else self.reconstruction_weight

  @classmethod
  def from_config(
    cls, config: Mapping[str, Any], **overrides: Any
  ) -> "SamplerSettings":
    """Reads `config.sampling`; overrides that are None are left out.

    Raises:
      UserError: a field is unknown or its value is invalid.
    """
    fields = {f.name for f in dataclasses.fields(cls)}
    merged = {**config, **{k: v for k, v in overrides.items() if v is not None}}
    for key in merged:
      if key not in fields:
        raise errors.unknown("field of config.sampling", key, fields)
    return cls(**merged)

  def make_sampler(self, any_observed: bool = True) -> samplers.Sampler:
    """Makes the sampler, for windows with or without given frames."""
    known = {
      "ancestral": lambda: samplers.Ancestral(self.gamma),
      "ddim": lambda: samplers.Ddim(self.eta),
      "dpmpp_2m": lambda: samplers.DpmSolverPP2M(),
      "langevin": lambda: samplers.LangevinCorrector(self.gamma, self.langevin_delta),
    }
    if self.sampler not in known:
      raise errors.unknown("`sampler` (sampling.sampler)", self.sampler, known)
    sampler = known[self.sampler]()
    if self.resample != 1:
      resampled = samplers.Resample(sampler, self.resample)
      return resampled if any_observed else sampler
    return sampler

  def grid(self, schedule: Any) -> Level:
    """Lists the levels [N + 1] at which a schedule is sampled."""
    if self.respacing:
      if not isinstance(schedule, DiscreteSchedule):
        raise UserError(
          f"`respacing={self.respacing}` (sampling.respacing): is for discrete "
          "schedules; this model's time is continuous, set `steps`"
        )
      return schedule.grid(self.respacing)
    return schedule.grid(self.steps or None)

  def clip(
    self,
    denoiser: samplers.Denoiser,
    low: float | jax.Array = -1.0,
    high: float | jax.Array = 1.0,
  ) -> samplers.Denoiser:
    """Applies the threshold to a denoiser; a static one clips to [low, high]."""
    if self.threshold == "static":
      return guidance.threshold_static(denoiser, low, high)
    if self.threshold == "dynamic":
      return guidance.threshold_dynamic(denoiser, self.percentile)
    return denoiser
