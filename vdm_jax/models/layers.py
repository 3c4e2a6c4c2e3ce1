"""Layers that every network shares.

Videos are [B, T, H, W, C]. A layer that works in space alone folds frames into the
batch; a normalisation names the axes of its statistics, because the four papers differ
in exactly that.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Bool, Float, Float32, Key

from vdm_jax.models import conv, conv3d

# Axes of the statistics of a [B, T, H, W, C] video; channels are always included.
PER_FRAME = (-3, -2, -1)
PER_VIDEO = (-4, -3, -2, -1)
PER_PIXEL = (-4, -1)

fan_in = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class SpaceConv(nn.Module):
  """2-D convolution over space, frame by frame: a 1 x k x k convolution.

  Attributes:
    features: output channels.
    kernel_size: k, for both spatial axes.
    stride: stride of both spatial axes.
    zero_init: whether to initialise to zero (the last layer of a residual branch).
    dtype: dtype of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  zero_init: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*lead h w c"]
  ) -> Float[Array, "*lead h_out w_out {self.features}"]:
    """Maps [..., H, W, C] to [..., ceil(H / stride), ceil(W / stride), features]."""
    k = self.kernel_size
    init = nn.initializers.zeros if self.zero_init else fan_in
    kernel = self.param("kernel", init, (k, k, x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    lead = x.shape[:-3]
    x = x.reshape(-1, *x.shape[-3:]).astype(self.dtype)
    pad = (k // 2, (k - 1) // 2)
    y = conv.conv2d(
      x, kernel.astype(self.dtype), strides=(self.stride,) * 2, padding=(pad, pad)
    )
    y = y + bias.astype(self.dtype)
    return y.reshape(*lead, *y.shape[-3:])


class SpaceTimeConv(nn.Module):
  """3-D convolution over time and space, with zeros around all three axes.

  Attributes:
    features: output channels.
    kernel_size: k, for all three axes.
    strides: strides of time, height and width.
    zero_init: whether to initialise to zero (the last layer of a residual branch).
    dtype: dtype of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 3
  strides: Sequence[int] = (1, 1, 1)
  zero_init: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "b t h w c"]
  ) -> Float[Array, "b t_out h_out w_out {self.features}"]:
    """Convolves; sizes of the result are ceil(. / stride)."""
    k = self.kernel_size
    init = nn.initializers.zeros if self.zero_init else fan_in
    kernel = self.param("kernel", init, (k, k, k, x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    y = conv3d.conv3d(
      x.astype(self.dtype), kernel.astype(self.dtype), strides=self.strides
    )
    return y + bias.astype(self.dtype)


class Dense(nn.Dense):
  """`nn.Dense` with the library's initialiser."""

  kernel_init: Any = fan_in


class GroupNorm(nn.Module):
  """Group normalisation; statistics and affine map in float32.

  Attributes:
    axes: axes of the statistics; for a video `PER_FRAME`, `PER_VIDEO` or `PER_PIXEL`
      (over time). There is no default.
    groups: number of channel groups; 0 takes 32, but at least 4 channels a group (one
      channel a group would cancel an added embedding).
    epsilon: added to the variance.
    dtype: dtype of the result.
  """

  axes: Sequence[int]
  groups: int = 0
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*shape"], mask: Bool[ArrayLike, "*shape"] | None = None
  ) -> Float[Array, "*shape"]:
    """Normalises x, by statistics of where `mask` is true."""
    groups = self.groups or default_groups(x.shape[-1])
    norm = nn.GroupNorm(
      num_groups=groups,
      epsilon=self.epsilon,
      reduction_axes=self.axes,
      dtype=self.dtype,
    )
    return norm(x, mask=mask)


class Dropout(nn.Module):
  """Dropout with a key per example.

  What is dropped of an example does not depend on the rest of the batch, so that a step
  in micro-batches equals a step in one batch.

  Attributes:
    rate: share of activations to drop; the rest is scaled by 1 / (1 - rate).
  """

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, " b *rest"], keys: Key[Array, " b"] | None
  ) -> Float[Array, " b *rest"]:
    """Drops activations of x by the keys of its examples; none if `keys` is None."""
    if keys is None or not self.rate:
      return x
    site = zlib.crc32("/".join(self.path).encode())  # Each layer draws its own.

    def draw(key):
      key = jax.random.fold_in(key, site)
      return jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:])

    return jnp.where(jax.vmap(draw)(keys), x / (1.0 - self.rate), 0.0).astype(x.dtype)


def to_patches(
  x: Float[ArrayLike, "*lead h w c"], size: int
) -> Float[Array | np.ndarray, "*lead h_out w_out c_out"]:
  """Folds size x size pixels into channels, to [..., H / size, W / size, size^2 C]."""
  if size == 1:
    return x
  *lead, height, width, c = x.shape
  x = x.reshape(*lead, height // size, size, width // size, size, c)
  x = jnp.moveaxis(x, -4, -3)
  return x.reshape(*lead, height // size, width // size, size * size * c)


def from_patches(
  x: Float[ArrayLike, "*lead h w c"], size: int
) -> Float[Array | np.ndarray, "*lead h_out w_out c_out"]:
  """Undoes `to_patches`."""
  if size == 1:
    return x
  *lead, height, width, c = x.shape
  x = x.reshape(*lead, height, width, size, size, c // (size * size))
  x = jnp.moveaxis(x, -3, -4)
  return x.reshape(*lead, height * size, width * size, c // (size * size))


def default_groups(channels: int) -> int:
  """Finds the largest divisor of `channels`, at most 32, with 4 or more per group."""
  most = max(1, min(32, channels // 4))
  return next(g for g in range(most, 0, -1) if channels % g == 0)


def sinusoid(
  time: Float[ArrayLike, "*level"],
  width: int,
  *,
  max_period: float = 10_000.0,
  cos_first: bool = True,
) -> Float32[Array, "*level {width}"]:
  """Computes sinusoidal features of a noise level's time input.

  Frequencies are max_period^(-i / half), i = 0 .. half - 1.

  Args:
    time: time inputs, in steps of a 1000-step process (0 .. 1000).
    width: number of features; an odd one ends in a zero.
    max_period: longest wavelength divided by 2 pi.
    cos_first: whether cosines come before sines.

  Returns:
    The features, cosines and sines.
  """
  half = width // 2
  frequency = jnp.exp(-jnp.log(max_period) * jnp.arange(half) / max(half, 1))
  angle = time.astype(jnp.float32)[..., None] * frequency
  parts = [jnp.cos(angle), jnp.sin(angle)]
  features = jnp.concatenate(parts if cos_first else parts[::-1], axis=-1)
  return jnp.pad(features, [(0, 0)] * time.ndim + [(0, width - 2 * half)])
