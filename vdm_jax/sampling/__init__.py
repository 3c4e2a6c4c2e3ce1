"""Sampling of videos: runs the windows of a plan through a sampler."""

from vdm_jax.sampling import cascade
from vdm_jax.sampling.model import Model, load
from vdm_jax.sampling.settings import SamplerSettings

__all__ = ["Model", "SamplerSettings", "cascade", "load"]
