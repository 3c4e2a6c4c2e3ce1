"""The 3-D convolutional U-Net of RaMViD (Höppe et al. 2022, section 3).

An image diffusion U-Net with 3x3x3 kernels throughout and full attention among all
pixels of all frames. It is not told which frames are given or where they are: they are
clean in its input, and it has to recognise them (`show_given`, which is ours, helps).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Key

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import attention, given, layers, unet
from vdm_jax.models.network import Encoded, Network

# Channel groups of every normalisation, at any width.
GROUPS = 32


def time_sizes(length: int, levels: int) -> list[int]:
  """Lists the frames that each level is resized to on the way up; 0 keeps them all."""
  return [length >> level for level in range(levels)]


def takes_length(length: int, levels: int) -> bool:
  """Returns whether this many frames can be halved level by level and restored.

  Strided convolutions round up, `time_sizes` rounds down: the two must agree at every
  level that an up-sampling restores.
  """
  sizes = time_sizes(length, levels)
  frames = length
  for size, below in zip(sizes, sizes[1:], strict=False):
    if size and frames != size:
      return False
    frames = -(-frames // 2) if below else frames
  return True


@dataclasses.dataclass(frozen=True)
class RamvidSettings:
  """Hyperparameters of the network.

  Attributes:
    channels: base width, a multiple of 32; level l has channels * channel_mults[l].
    channel_mults: one per resolution, finest first.
    blocks: residual blocks per resolution.
    attention_resolutions: heights in pixels at which joint attention follows each
      block; the middle always has it.
    num_heads: attention heads.
    num_heads_upsample: attention heads on the way up; 0 for num_heads.
    scale_time_dim: frames of a clip if time is halved along with space; the network
      then takes no other length. 0 resizes space alone and takes any length.
    scale_shift: whether the embedding scales and shifts in residual blocks or is added.
    dropout: dropout rate in the residual blocks.
    num_labels: number of class labels; 0 for none.
    show_given: whether the input of each frame includes the given frames nearest in
      time and their distances, see `given.neighbours`. Ours; the paper's network has to
      recognise given frames.
    patch: edge, in pixels, of the patches that the network works on; heights of levels
      are then in patches. Ours; 1 is the paper's network.
    learn_variance: whether to predict the reverse process's variance beside the mean.
    out_channels: channels of the video.
    remat: activations to recompute, see `unet.remat`.
    attention: implementation of attention, see `attention.attend`.
    dtype: dtype of the computation; parameters are float32.
  """

  channels: int
  channel_mults: Sequence[int] = (1, 2, 3, 4)
  blocks: int = 2
  attention_resolutions: Sequence[int] = (16, 8)
  num_heads: int = 4
  num_heads_upsample: int = 0
  scale_time_dim: int = 0
  scale_shift: bool = True
  dropout: float = 0.0
  num_labels: int = 0
  show_given: bool = False
  patch: int = 1
  learn_variance: bool = False
  out_channels: int = 3
  remat: str = "none"
  attention: str = "auto"
  dtype: Any = jnp.float32

  @property
  def widths(self) -> list[int]:
    """Lists the channels of each level, finest first."""
    return [self.channels * mult for mult in self.channel_mults]

  def heads(self, up: bool) -> int:
    """Returns the number of heads on the way up, or else down and in the middle."""
    return self.num_heads_upsample if up and self.num_heads_upsample else self.num_heads

  def check(self, length: int, height: int, width: int) -> None:
    """Checks that the network takes clips of this size.

    Raises:
      UserError: sizes of clip and network do not fit, or widths are not divisible by
        groups or heads.
    """
    levels = len(self.channel_mults)
    for level, channels in enumerate(self.widths):
      if channels % GROUPS:
        raise UserError(
          f"config.model.channels: level {level} has {channels} channels, expected a "
          f"multiple of {GROUPS}, the groups of the normalisation"
        )
    height, width = unet.check_patch(height, width, self.patch)
    unet.check_frame(height, width, levels, self.attention_resolutions)
    attending = [
      channels
      for level, channels in enumerate(self.widths)
      if height >> level in self.attention_resolutions
    ]
    for channels in (*attending, self.widths[-1]):  # The last one is for the middle.
      for up in (False, True):
        heads = self.heads(up=up)
        if heads < 1 or channels % heads:
          field = (
            "num_heads_upsample" if up and self.num_heads_upsample else "num_heads"
          )
          raise UserError(
            f"config.model.{field}: {heads} does not divide the {channels} channels of "
            "an attention level"
          )
    self.check_length(length)

  def check_length(self, length: int) -> None:
    """Raises UserError, naming lengths that work, if this one does not."""
    s, levels = self.scale_time_dim, len(self.channel_mults)
    if s == 0:
      return
    if not takes_length(s, levels):
      near = range(1, s + 2 ** (levels - 1) + 1)
      works = [str(n) for n in near if takes_length(n, levels)][-4:]
      raise UserError(
        f"config.model.scale_time_dim: {s} frames cannot be halved and restored over "
        f"{levels} levels; lengths that can be: {', '.join(works)}; 0 resizes space "
        "alone and takes any length"
      )
    if length != s:
      raise UserError(
        f"clip length: expected {s} frames (config.model.scale_time_dim={s} takes no "
        f"other length, 0 would take any), found {length}"
      )


class RamvidUNet(Network):
  """RaMViD's network: `encode` runs once per window, `denoise` at every noise level."""

  settings: RamvidSettings

  def setup(self):
    if self.settings.num_labels:
      self.label = nn.Embed(
        self.settings.num_labels,
        4 * self.settings.channels,
        embedding_init=nn.initializers.normal(1.0),
        dtype=self.settings.dtype,
      )
    self.backbone = Backbone(self.settings)

  def encode(
    self,
    video: Float[ArrayLike, "b t h w c"],
    frames: Frames,
    cond: Mapping[str, Array],
    state: Any = None,
  ) -> Encoded:
    """Embeds the class label, once per window.

    Args:
      video: not read, as given frames enter through z.
      frames: roles of the frames, [B, T].
      cond: 'label' int32 [B, 1] if the network takes labels; -1 is no label.
      state: unused.

    Returns:
      The context: the label's embedding [B, 4 * channels], zero without a label.
    """
    del video, state
    s = self.settings
    if not s.num_labels:
      return Encoded(context=jnp.zeros((frames.index.shape[0], 4 * s.channels)))
    label = cond["label"][:, 0]
    embedded = self.label(jnp.maximum(label, 0))
    return Encoded(context=jnp.where((label >= 0)[:, None], embedded, 0))

  def denoise(
    self,
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    context: Float[ArrayLike, "b e"],
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Predicts from a window whose observed frames are clean.

    Args:
      z: the window, with observed frames clean and the others noisy.
      level: `diffusion.schedule.Level` of shape [B], the level of the noisy frames.
      frames: roles of the frames, read with `show_given` only; otherwise the network
        recognises observed frames by itself.
      context: context made by `encode`.
      dropout: a dropout key per example; None for no dropout.

    Returns:
      The prediction, of `out_channels` channels, or twice as many if it learns its
      variance. For observed frames it means nothing unless the loss
      includes them.
    """
    if self.settings.show_given:
      z = jnp.concatenate([z, given.neighbours(z, frames)], axis=-1)
    return self.backbone(z, level.time, context, dropout)


class Backbone(nn.Module):
  """The U-Net of `denoise`."""

  settings: RamvidSettings

  @nn.compact
  def __call__(self, z, time, context, dropout):
    s = self.settings
    s.check(*z.shape[1:4])
    z = layers.to_patches(z, s.patch)
    widths, levels = s.widths, len(s.widths)
    heights = [z.shape[2] >> level for level in range(levels)]
    sizes = time_sizes(s.scale_time_dim, levels)

    emb = layers.sinusoid(time, s.channels)
    emb = layers.Dense(4 * s.channels, dtype=s.dtype, name="embed_0")(emb)
    emb = layers.Dense(4 * s.channels, dtype=s.dtype, name="embed_1")(nn.silu(emb))
    emb = (emb + context.astype(s.dtype))[:, None]
    res_block = unet.remat(unet.ResBlock, s.remat)
    joint_attention = unet.remat(attention.SpaceAttention, s.remat)

    def block(name, width):
      layer = res_block(
        width,
        layers.PER_VIDEO,
        s.dropout,
        s.dtype,
        groups=GROUPS,
        scale_shift=s.scale_shift,
        conv=layers.SpaceTimeConv,
        name=name,
      )
      return lambda h: layer(h, emb, dropout)

    def site(name, level):
      middle = level == levels
      if not middle and heights[level] not in s.attention_resolutions:
        return None
      return joint_attention(
        widths[min(level, levels - 1)] // s.heads(up=name.startswith("up")),
        layers.PER_VIDEO,
        s.attention,
        s.dtype,
        groups=GROUPS,
        joint=True,
        name=name,
      )

    def downsample(name, level):
      strides = (2 if sizes[level + 1] else 1, 2, 2)
      return layers.SpaceTimeConv(
        widths[level], strides=strides, dtype=s.dtype, name=name
      )

    h = layers.SpaceTimeConv(s.channels, dtype=s.dtype, name="stem")(z)
    h = unet.wire(
      h,
      widths=widths,
      blocks=s.blocks,
      block=block,
      attention=site,
      downsample=downsample,
      upsample=lambda name, level: Upsample(
        widths[level], sizes[level - 1], dtype=s.dtype, name=name
      ),
    )
    norm = layers.GroupNorm(
      layers.PER_VIDEO, groups=GROUPS, dtype=s.dtype, name="head_norm"
    )
    out_channels = s.patch**2 * s.out_channels * (2 if s.learn_variance else 1)
    # The prediction is float32, as conversions between x, eps and v need it.
    head = layers.SpaceTimeConv(out_channels, zero_init=True, name="head")
    return layers.from_patches(head(nn.silu(norm(h))), s.patch)


class Upsample(nn.Module):
  """Nearest-neighbour doubling in space, resizing in time, then a convolution.

  Attributes:
    features: output channels.
    frames: number of frames of the result; 0 keeps them all.
    dtype: dtype of the computation.
  """

  features: int
  frames: int = 0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "b t h w c"]
  ) -> Float[Array, "b t_out h_out w_out {self.features}"]:
    """Maps [B, T, H, W, C] to [B, frames or T, 2 H, 2 W, features]."""
    if self.frames:
      x = x[:, np.arange(self.frames) * x.shape[1] // self.frames]
    x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
    return layers.SpaceTimeConv(self.features, dtype=self.dtype, name="conv")(x)
