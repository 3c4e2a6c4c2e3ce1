"""I3D (Carreira and Zisserman 2017), the action classifier behind FVD.

Its 400 Kinetics logits, averaged over time, are the features of every code base that
reports FVD. Layouts are channels last; padding is TensorFlow's 'SAME'.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32

from vdm_jax.errors import UserError

NUM_CLASSES = 400  # Kinetics-400.
FEATURES = 1024
MIN_FRAMES = 9  # Time is halved three times, then two steps are averaged.
SIZE = 224  # Height and width at which the weights were trained.
MIN_SIZE = 193  # Smallest height and width that leave seven places.

# Widths of the branches of a block: 1x1; 1x1, 3x3; 1x1, 3x3; after a pool, 1x1.
BLOCKS = {
  "Mixed_3b": (64, 96, 128, 16, 32, 32),
  "Mixed_3c": (128, 128, 192, 32, 96, 64),
  "Mixed_4b": (192, 96, 208, 16, 48, 64),
  "Mixed_4c": (160, 112, 224, 24, 64, 64),
  "Mixed_4d": (128, 128, 256, 24, 64, 64),
  "Mixed_4e": (112, 144, 288, 32, 64, 64),
  "Mixed_4f": (256, 160, 320, 32, 128, 128),
  "Mixed_5b": (256, 160, 320, 32, 128, 128),
  "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")


class Unit(nn.Module):
  """A convolution without a bias, a batch norm with fixed statistics, and a ReLU."""

  features: int
  kernel: tuple[int, int, int] = (1, 1, 1)
  stride: int = 1
  bn_eps: float = 1e-3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "b t h w c"]
  ) -> Float32[Array, "b t_out h_out w_out {self.features}"]:
    shape = (*self.kernel, x.shape[-1], self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    zeros, ones = nn.initializers.zeros, nn.initializers.ones
    scale = self.param("scale", ones, (self.features,))
    bias = self.param("bias", zeros, (self.features,))
    mean = self.param("mean", zeros, (self.features,))
    var = self.param("var", ones, (self.features,))
    y = jax.lax.conv_general_dilated(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      (self.stride,) * 3,
      "SAME",
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
      precision=jax.lax.Precision.HIGHEST,
    )
    slope = scale * jax.lax.rsqrt(var + self.bn_eps)
    y = y.astype(jnp.float32) * slope + (bias - mean * slope)
    return nn.relu(y)


class Mixed(nn.Module):
  """An inception block of four branches, concatenated in the channels."""

  widths: tuple[int, ...]
  bn_eps: float = 1e-3
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "b t h w c"]
  ) -> Float32[Array, "b t h w c_out"]:
    widths = dict(zip(BRANCHES, self.widths, strict=True))

    def unit(name, x):
      kernel = (3, 3, 3) if name in ("b1b", "b2b") else (1, 1, 1)
      return Unit(widths[name], kernel, 1, self.bn_eps, self.dtype, name=name)(x)

    branches = [
      unit("b0", x),
      unit("b1b", unit("b1a", x)),
      unit("b2b", unit("b2a", x)),
      unit("b3b", _max_pool(x, (3, 3, 3), (1, 1, 1))),
    ]
    return jnp.concatenate(branches, axis=-1)


class InceptionI3D(nn.Module):
  """The network I3D, up to its logits.

  Attributes:
    num_classes: number of logits.
    bn_eps: epsilon of the batch norms: 1e-3 as in TensorFlow, 1e-5 as in the class that
      VideoGPT, TATS and their copies load the weights into.
    dtype: dtype of the convolutions; everything else is float32.
  """

  num_classes: int = NUM_CLASSES
  bn_eps: float = 1e-3
  dtype: Any = jnp.float32

  def _trunk(self, clips: jax.Array) -> dict[str, jax.Array]:
    """Computes the outputs of all blocks up to Mixed_5c."""
    found = {}

    def keep(name, x):
      found[name] = x
      return x

    def unit(name, features, kernel, stride, x):
      layer = Unit(features, kernel, stride, self.bn_eps, self.dtype, name=name)
      return keep(name, layer(x))

    def mixed(names, x):
      for name in names:
        layer = Mixed(BLOCKS[name], self.bn_eps, self.dtype, name=name)
        x = keep(name, layer(x))
      return x

    def pool(name, window, stride, x):
      return keep(name, _max_pool(x, window, stride))

    x = unit("Conv3d_1a_7x7", 64, (7, 7, 7), 2, clips)
    x = pool("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2), x)
    x = unit("Conv3d_2b_1x1", 64, (1, 1, 1), 1, x)
    x = unit("Conv3d_2c_3x3", 192, (3, 3, 3), 1, x)
    x = pool("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2), x)
    x = mixed(["Mixed_3b", "Mixed_3c"], x)
    x = pool("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2), x)
    x = mixed([name for name in BLOCKS if name.startswith("Mixed_4")], x)
    x = pool("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2), x)
    mixed(["Mixed_5b", "Mixed_5c"], x)
    return found

  @nn.compact
  def __call__(
    self, clips: Float[ArrayLike, "b t h w c"], *, endpoints: bool = False
  ) -> dict[str, Float32[Array, "b ..."]]:
    """Computes features and logits of clips.

    Frames above 224 pixels leave several places, which are averaged.

    Args:
      clips: float [B, T, H, W, 3] in [-1, 1], T >= 9, H and W >= 193.
      endpoints: whether to return the outputs of all blocks up to Mixed_5c instead, by
        the names of the authors' code; clips may then have any size.

    Returns:
      `logits` [B, 400] and `pool` [B, 1024], means over time; and both for each of the
      T' remaining steps of time, `logits_per_step` and `pool_per_step`; float32.

    Raises:
      UserError: the clips are too short or their frames too small.
    """
    if endpoints:
      return self._trunk(clips)
    _, length, height, width, channels = clips.shape
    if length < MIN_FRAMES:
      raise UserError(
        f"I3D: expected clips of {MIN_FRAMES} frames or more, found {length}"
      )
    if min(height, width) < MIN_SIZE:
      raise UserError(
        f"I3D: expected frames of {MIN_SIZE} pixels or more, found {height} x {width}; "
        f"a resize rule makes {SIZE} of them"
      )
    if channels != 3:
      raise UserError(f"I3D: expected frames in RGB, found {channels} channels")
    x = self._trunk(clips)["Mixed_5c"]
    x = nn.avg_pool(x, (2, 7, 7), (1, 1, 1), "VALID").mean((2, 3))  # [B, T', 1024]
    shape = (x.shape[-1], self.num_classes)
    kernel = self.param("logits_kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("logits_bias", nn.initializers.zeros, shape[1:])
    logits = jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias
    return {
      "logits": logits.mean(1),
      "pool": x.mean(1),
      "logits_per_step": logits,
      "pool_per_step": x,
    }


def _max_pool(x, window, stride):
  return nn.max_pool(x, window, stride, "SAME")
