"""The demos: training, sampling, and proof by numbers that they work."""

from vdm_jax.demo.steps import run

__all__ = ["run"]
