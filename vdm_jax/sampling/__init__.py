"""Sampling: windows of a plan through a sampler, videos out."""

from vdm_jax.sampling.model import Model, load
from vdm_jax.sampling.settings import SamplerSettings

__all__ = ["Model", "SamplerSettings", "load"]
