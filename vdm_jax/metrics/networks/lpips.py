"""LPIPS (Zhang et al. 2018), version 0.1, the perceptual distance of two pictures.

    d = sum over layers of the mean over places of sum_c w_c (f_c - g_c)^2

where f and g are the activations of an image classifier, of norm 1 over channels.
Padding is PyTorch's: explicit around convolutions, none around pools.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float

from vdm_jax.errors import UserError

NETS = ("alexnet", "vgg16")
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
# Convolutions: width, kernel, stride, padding; whether a pool precedes, and whether the
# activation is compared.
_ALEXNET = (
  (64, 11, 4, 2, False, True), (192, 5, 1, 2, True, True), (384, 3, 1, 1, True, True),
  (256, 3, 1, 1, False, True), (256, 3, 1, 1, False, True),
)  # fmt: skip
_VGG16 = tuple(
  (width, 3, 1, 1, bool(group) and not index, index == count - 1)
  for group, (width, count) in enumerate(
    ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
  )
  for index in range(count)
)
LAYERS = {"alexnet": _ALEXNET, "vgg16": _VGG16}
_POOL = {"alexnet": 3, "vgg16": 2}  # Window of the pools, of stride 2.
MIN_SIZE = {"alexnet": 31, "vgg16": 16}  # Leaves a place in every layer.


class Lpips(nn.Module):
  """LPIPS by one of the two networks.

  Attributes:
    net: 'alexnet' or 'vgg16'.
  """

  net: str = "alexnet"

  def setup(self):
    kernels, biases, channels = [], [], 3
    for i, (width, size, *_) in enumerate(LAYERS[self.net]):
      shape = (size, size, channels, width)
      init = nn.initializers.lecun_normal()
      kernels.append(self.param(f"conv_{i}_kernel", init, shape))
      biases.append(self.param(f"conv_{i}_bias", nn.initializers.zeros, (width,)))
      channels = width
    self.kernels, self.biases = kernels, biases
    tapped = [layer[0] for layer in LAYERS[self.net] if layer[-1]]
    self.weights = [
      self.param(f"lin_{i}", nn.initializers.ones, (width,))
      for i, width in enumerate(tapped)
    ]

  def features(
    self, pictures: Float[ArrayLike, "n h w 3"]
  ) -> list[Float[Array, "n _h _w _c"]]:
    """Computes the activations to compare, of pictures in [-1, 1]."""
    x = (pictures - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
    found = []
    window = (_POOL[self.net],) * 2
    for kernel, bias, (_, _, stride, padding, pool, tapped) in zip(
      self.kernels, self.biases, LAYERS[self.net], strict=True
    ):
      if pool:
        x = nn.max_pool(x, window, (2, 2), "VALID")
      x = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
      )
      x = nn.relu(x + bias)
      if tapped:
        found.append(x)
    return found

  def __call__(
    self, first: Float[ArrayLike, "n h w c"], second: Float[ArrayLike, "n h w c"]
  ) -> Float[Array, " n"]:
    """Computes distances of RGB pictures in [-1, 1].

    Raises:
      UserError: pictures are too small, or not in RGB.
    """
    return sum(jnp.mean(d, (1, 2)) for d in self.per_place(first, second))

  def per_place(
    self, first: Float[ArrayLike, "n h w c"], second: Float[ArrayLike, "n h w c"]
  ) -> list[Float[Array, "n _h _w"]]:
    """Computes the distance at every place of every layer."""
    height, width, channels = first.shape[1:]
    least = MIN_SIZE[self.net]
    if min(height, width) < least or channels != 3:
      raise UserError(
        f"LPIPS ({self.net}): expected RGB frames of {least} pixels or more, found "
        f"{height} x {width} with {channels} channels"
      )
    found = []
    for f, g, w in zip(
      self.features(first), self.features(second), self.weights, strict=True
    ):
      difference = _unit(f) - _unit(g)
      found.append(jnp.sum(w * jnp.square(difference), axis=-1))
    return found

  def spatial(
    self, first: Float[ArrayLike, "n h w c"], second: Float[ArrayLike, "n h w c"]
  ) -> Float[Array, "n h w"]:
    """Computes a map of distances, resized from every layer and added."""
    shape = first.shape[:3]
    return sum(
      jax.image.resize(d, shape, "bilinear", antialias=False)
      for d in self.per_place(first, second)
    )


def _unit(features: jax.Array) -> jax.Array:
  """Normalises over channels; zeros have no NaN in their gradient."""
  square = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
  some = square > 0
  norm = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)
  return features / (norm + 1e-10)
