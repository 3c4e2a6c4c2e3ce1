"""Common parts of tests of diffusion."""

import jax.numpy as jnp
import pytest

from vdm_jax.diffusion import process
from vdm_jax.diffusion.process import Estimate


@pytest.fixture
def gaussian():
  """From a standard deviation, the exact denoiser of N(0, std^2) elements."""

  def make(std):
    def denoise(z, level):
      logsnr = process.expand(level.logsnr, z.ndim)
      # E[x | z] = Cov(x, z) / Var(z) z.
      covariance = process.alpha(logsnr) * std**2
      variance = process.alpha(logsnr) * covariance + process.sigma(logsnr) ** 2
      return Estimate(jnp.asarray(z * covariance / variance))

    return denoise

  return make
