"""Building blocks of RVD's three networks (Yang et al. 2022).

Every block acts on each frame by itself, with any leading axes. Kernels are initialised
uniformly in +-1 / sqrt(fan in), as in the authors' code, so that the prediction starts
small and far from its clamp. The authors' biases are initialised alike, ours to zero.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float

from vdm_jax.errors import unknown
from vdm_jax.models import conv, layers, unet

GROUPS = 8
_HEADS, _HEAD_DIM = 4, 16

kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
activation = functools.partial(nn.leaky_relu, negative_slope=0.2)
gelu = functools.partial(nn.gelu, approximate=False)


class Conv(nn.Module):
  """A k x k convolution of each frame, padded by k // 2 on every side.

  Attributes:
    features: output channels.
    kernel_size: k, an odd number.
    stride: stride of both spatial axes; 2 keeps ceil(H / 2) rows.
    dtype: dtype of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*lead h w c"]
  ) -> Float[Array, "*lead h_out w_out {self.features}"]:
    """Maps [..., H, W, C] to [..., ceil(H / stride), ceil(W / stride), features]."""
    k, channels = self.kernel_size, x.shape[-1]
    kernel = self.param("kernel", kernel_init, (k, k, channels, self.features))
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    pad = (k // 2, k // 2)
    y = conv.conv2d(
      x.reshape(-1, *x.shape[-3:]).astype(self.dtype),
      kernel.astype(self.dtype),
      strides=(self.stride,) * 2,
      padding=(pad, pad),
    )
    y = y + bias.astype(self.dtype)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def dense(features: int, dtype: Any, name: str, use_bias: bool = True):
  """Makes a linear map of channels, that is, a 1 x 1 convolution."""
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=kernel_init,
    name=name,
  )


class DepthwiseConv(nn.Module):
  """A 7 x 7 convolution of each channel by itself, which keeps [..., H, W, C].

  Attributes:
    dtype: dtype of the computation.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "*lead h w c"]) -> Float[Array, "*lead h w c"]:
    channels = x.shape[-1]
    layer = nn.Conv(
      channels,
      (7, 7),
      padding=3,
      feature_group_count=channels,
      dtype=self.dtype,
      kernel_init=kernel_init,
      name="conv",
    )
    return layer(x.reshape(-1, *x.shape[-3:])).reshape(x.shape)


class Upsample(nn.Module):
  """A transposed 4 x 4 convolution of stride 2, [..., H, W, C] to [..., 2H, 2W, C].

  Rows 2i and 2i + 1 of the result depend on two rows of x each, i - 1 and i, and i and
  i + 1; columns likewise. So it is computed as a 2 x 2 convolution to 4 C channels, C
  for each parity of row and column, which are then interleaved.

  Attributes:
    dtype: dtype of the computation; parameters are float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*lead h w c"]
  ) -> Float[Array, "*lead h_out w_out c"]:
    *lead, height, width, c = x.shape
    # The kernel's axes are those of the transposed convolution: row, column, in, out.
    kernel = self.param("kernel", kernel_init, (4, 4, c, c))
    bias = self.param("bias", nn.initializers.zeros, (c,))
    # Row 2i is i - 1 by kernel row 3 and i by 1; row 2i + 1 is i by 2 and i + 1 by 0.
    # So, after the flip, the axes are: row, its parity, column, its parity, in, out.
    kernel = kernel.reshape(2, 2, 2, 2, c, c)[::-1, ::-1, ::-1, ::-1]
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, c, 4 * c)
    y = conv.conv2d(
      x.reshape(-1, height, width, c).astype(self.dtype),
      kernel.astype(self.dtype),
      padding=((1, 1), (1, 1)),
    )
    y = y.reshape(-1, height + 1, width + 1, 2, 2, c)
    rows = [y[:, i : i + height, :, i] for i in range(2)]
    parts = [
      jnp.stack([row[:, :, j : j + width, j] for j in range(2)], axis=3) for row in rows
    ]
    y = jnp.stack(parts, axis=2).reshape(*lead, 2 * height, 2 * width, c)
    return y + bias.astype(self.dtype)


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
  """Makes a layer norm of each pixel over its channels."""
  return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)


class HalfBlock(nn.Module):
  """A convolution, a group norm of 8 groups, and a leaky ReLU of slope 0.2.

  Attributes:
    features: output channels, a multiple of 8.
    dtype: dtype of the computation.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*lead h w c"]
  ) -> Float[Array, "*lead h w {self.features}"]:
    x = unet.kept(Conv(self.features, dtype=self.dtype, name="conv")(x))
    norm = layers.GroupNorm(
      layers.PER_FRAME, groups=GROUPS, dtype=self.dtype, name="norm"
    )
    return activation(norm(x))


class ResnetBlock(nn.Module):
  """Two half blocks with a shortcut; the embedding is added between them.

  Attributes:
    features: output channels, a multiple of 8.
    dtype: dtype of the computation.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[ArrayLike, "*lead h w c"],
    emb: Float[ArrayLike, "... e"] | None = None,
  ) -> Float[Array, "*lead h w {self.features}"]:
    """Maps frames and an embedding, broadcastable to their leading axes."""
    h = HalfBlock(self.features, self.dtype, name="half_0")(x)
    if emb is not None:
      shift = dense(self.features, self.dtype, "embedding")
      h = h + shift(activation(emb))[..., None, None, :]
    h = HalfBlock(self.features, self.dtype, name="half_1")(h)
    return h + _shortcut(x, self.features, self.dtype)


class ConvNextBlock(nn.Module):
  """A depthwise convolution, then an MLP per pixel of twice the output width.

  Attributes:
    features: output channels.
    dtype: dtype of the computation.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[ArrayLike, "*lead h w c"],
    emb: Float[ArrayLike, "... e"] | None = None,
  ) -> Float[Array, "*lead h w {self.features}"]:
    """Maps frames and an embedding, broadcastable to their leading axes."""
    channels, wide = x.shape[-1], 2 * self.features
    h = DepthwiseConv(self.dtype, name="depthwise")(x.astype(self.dtype))
    if emb is not None:
      shift = dense(channels, self.dtype, "embedding")
      h = h + shift(gelu(emb))[..., None, None, :]
    h = layer_norm(self.dtype, "norm_0")(h)
    h = unet.kept(dense(wide, self.dtype, "mlp_0")(h))  # A 1x1 convolution.
    h = layer_norm(self.dtype, "norm_1")(gelu(h))
    h = dense(self.features, self.dtype, "mlp_1")(h)
    return h + _shortcut(x, self.features, self.dtype)


def _shortcut(x, features, dtype):
  channels = x.shape[-1]
  x = x.astype(dtype)
  return x if channels == features else dense(features, dtype, "skip")(x)


BLOCKS = {"resnet": ResnetBlock, "convnext": ConvNextBlock}


def block_class(name: str, field: str) -> type[nn.Module]:
  """Finds the class of a block; UserError, naming the field, if there is none."""
  if name not in BLOCKS:
    raise unknown(field, name, BLOCKS)
  return BLOCKS[name]


class LinearAttention(nn.Module):
  """Attention over the pixels of a frame at a cost linear in their number.

  It has 4 heads of 16 channels, whatever the width. The softmax is over the pixels of
  the keys only, so that keys and values can be contracted first.

  Attributes:
    dtype: dtype of the computation; the softmax is in float32.
  """

  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "*lead h w c"]) -> Float[Array, "*lead h w c"]:
    """Computes attention, residual included."""
    channels = x.shape[-1]
    hidden = _HEADS * _HEAD_DIM
    h = layer_norm(self.dtype, "norm")(x)
    qkv = dense(3 * hidden, self.dtype, "qkv", use_bias=False)(h)
    qkv = qkv.reshape(*x.shape[:-3], -1, 3 * hidden)
    q, k, v = jnp.split(qkv, 3, axis=-1)
    k = nn.softmax(k.astype(jnp.float32), axis=-2).astype(self.dtype)
    # One product of all pairs of heads, of which only the diagonal is kept: a matrix
    # unit takes as long for 64 x 64 as for 16 x 16.
    head = jnp.arange(hidden) // _HEAD_DIM
    summary = jnp.einsum("...nd,...ne->...de", k, v)
    summary = jnp.where(head[:, None] == head, summary, 0)
    h = jnp.einsum("...nd,...de->...ne", q * _HEAD_DIM**-0.5, summary)
    h = h.reshape(*x.shape[:-1], hidden)
    return x + dense(channels, self.dtype, "out")(h)
