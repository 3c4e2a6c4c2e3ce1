from . import (
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
