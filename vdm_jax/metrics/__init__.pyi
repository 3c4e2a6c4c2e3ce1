from . import (
  crps,
  features,
  frechet,
  image,
  inception,
  jackknife,
  kernel,
  perceptual,
  resize,
  weights,
)
