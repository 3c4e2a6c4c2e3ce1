"""Measures of videos: pure functions of arrays, and the networks that some need.

Nothing here knows of runs, data sets or folders; `vdm_jax.evaluation` does.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
  from vdm_jax.metrics import (
    crps,
    features,
    frechet,
    image,
    inception,
    kernel,
    perceptual,
    resize,
    weights,
  )

__getattr__, __dir__, _ = lazy_loader.attach(
  __name__,
  submodules=[
    "crps",
    "features",
    "frechet",
    "image",
    "inception",
    "kernel",
    "perceptual",
    "resize",
    "weights",
  ],
)

__all__ = [
  "crps",
  "features",
  "frechet",
  "image",
  "inception",
  "kernel",
  "perceptual",
  "resize",
  "weights",
]
