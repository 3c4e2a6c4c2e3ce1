"""The demo: train on moving digits, sample, and prove with numbers that it works."""

from vdm_jax.demo.steps import run

__all__ = ["run"]
