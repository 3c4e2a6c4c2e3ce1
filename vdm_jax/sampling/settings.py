"""Settings of sampling, which are the fields of `config.sampling`."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

import jax

from vdm_jax import errors
from vdm_jax.diffusion import guidance
from vdm_jax.diffusion import sampler as samplers
from vdm_jax.diffusion.schedule import DiscreteSchedule, Level
from vdm_jax.errors import UserError

METHODS = ("", "replacement", "reconstruction")
_THRESHOLDS = ("none", "static", "dynamic")
# What a field's value must be, by the type of its default, and in words.
_TYPES = {
  bool: (bool, "True or False"),
  int: (numbers.Integral, "a whole number"),
  float: (numbers.Real, "a number"),
  str: (str, "text"),
}
# The least and the largest value of a field.
_RANGES = {
  "steps": (0, math.inf),
  "gamma": (0, 1),
  "eta": (0, 1),
  "langevin_delta": (0, 1),
  "guidance": (0, math.inf),
  "reconstruction_weight": (0, math.inf),
  "super_resolution_weight": (0, math.inf),
  "resample": (1, math.inf),
}


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
    for field in dataclasses.fields(self):
      self._check_type(field)
    for name, (low, high) in _RANGES.items():
      # Written so that NaN is refused, too.
      if not low <= getattr(self, name) <= high:
        raise self._wrong(name, f">= {low}" if high == math.inf else f"{low} to {high}")
    if not 0 < self.percentile <= 1:
      raise self._wrong("percentile", "a fraction above 0, at most 1")
    if self.threshold not in _THRESHOLDS:
      raise errors.unknown(
        "`threshold` (sampling.threshold)", self.threshold, _THRESHOLDS
      )
    if self.method not in METHODS:
      raise errors.unknown("`method` (sampling.method)", self.method, METHODS)
    if self.method == "reconstruction" and not self.reconstruction_weight:
      raise UserError(
        "`method=reconstruction` (sampling.method): wants a `reconstruction_weight` "
        "above 0 (the paper: 9 to 50 where few frames are given)"
      )
    self.make_sampler()

  def _check_type(self, field):
    kind, words = _TYPES[type(field.default)]
    value = getattr(self, field.name)
    # To Python, True is a whole number.
    truth = isinstance(value, bool) and kind is not bool
    # 'respacing=50' of a command line is read as a number.
    count = field.name == "respacing" and isinstance(value, numbers.Integral)
    if truth or not (count or isinstance(value, kind)):
      raise self._wrong(field.name, words)

  def _wrong(self, name, expected):
    value = getattr(self, name)
    return UserError(f"`{name}={value}` (sampling.{name}): expected {expected}")

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
    """Lists the levels [N + 1] at which a schedule is sampled.

    Raises:
      UserError: the schedule has no such steps.
    """
    discrete = isinstance(schedule, DiscreteSchedule)
    if self.respacing:
      if not discrete:
        raise UserError(
          f"`respacing={self.respacing}` (sampling.respacing): is for discrete "
          "schedules; this model's time is continuous, set `steps`"
        )
      return schedule.grid(self.respacing)
    if not self.steps and not discrete:
      raise self._wrong("steps", ">= 1, as this model's time is continuous")
    if discrete and self.steps > schedule.num_steps:
      raise self._wrong("steps", f"at most the {schedule.num_steps} of this model")
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
