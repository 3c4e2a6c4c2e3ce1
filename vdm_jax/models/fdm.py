"""The U-Net of FDM (Harvey et al. 2022, section 4 and appendix).

One network samples any frames given any others. Observed frames enter clean, marked in
a channel of their own, and attention over time takes the distances between frames.
Convolutions and norms are those of an image U-Net; an attention site is attention over
time, then over space.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Key

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import attention, given, layers, unet
from vdm_jax.models.fdm_attention import GROUPS, FrameAttention
from vdm_jax.models.network import Encoded, Network


@dataclasses.dataclass(frozen=True)
class FdmSettings:
  """Hyperparameters of the network.

  Attributes:
    channels: base width, a multiple of 32; level l has channels * channel_mults[l].
    channel_mults: one per resolution, finest first.
    blocks: residual blocks per resolution.
    attention_resolutions: heights in pixels at which attention follows each block; the
      middle always has attention.
    num_heads: attention heads, at every resolution.
    num_heads_upsample: attention heads on the way up; 0 for num_heads.
    scale_shift: whether the embedding scales and shifts in residual blocks or is added.
    padding_in_norm: see `fdm_attention.FrameAttention`.
    dropout: dropout rate in the residual blocks.
    show_given: whether the input of each frame includes the given frames nearest in
      time and their distances, see `given.neighbours`. Ours; in the paper only
      attention finds them.
    pool_given: whether features pooled over all given frames are added to the
      embedding, see `given.Pooled`. Ours.
    patch: edge, in pixels, of the patches that the network works on; heights of levels
      are then in patches. Ours; 1 is the paper's network.
    learn_variance: whether to predict the reverse process's variance beside the mean.
    out_channels: channels of the video.
    remat: activations to recompute, see `unet.remat`.
    attention: implementation of attention over space, see `attention.attend`.
    dtype: dtype of the computation; parameters are float32.
  """

  channels: int
  channel_mults: Sequence[int] = (1, 2, 3, 4)
  blocks: int = 2
  attention_resolutions: Sequence[int] = (16, 8)
  num_heads: int = 4
  num_heads_upsample: int = 0
  scale_shift: bool = True
  padding_in_norm: bool = True
  dropout: float = 0.0
  show_given: bool = False
  pool_given: bool = False
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

  def check(self, height: int, width: int) -> None:
    """Checks that the network takes frames of this size.

    Raises:
      UserError: the U-Net's stride does not divide the frame, an attention resolution
        never occurs, or widths are not divisible by groups or heads.
    """
    levels = len(self.channel_mults)
    height, width = unet.check_patch(height, width, self.patch)
    unet.check_frame(height, width, levels, self.attention_resolutions)
    for level, channels in enumerate(self.widths):
      if channels % GROUPS:
        raise UserError(
          f"config.model.channels: level {level} has {channels} channels, expected a "
          f"multiple of {GROUPS}, the groups of the normalisation"
        )
    for level in (*self._attending(height), levels):
      for name in ("down", "up"):
        self.head_dim(name, level)

  def _attending(self, height: int) -> list[int]:
    """Lists the levels at which attention follows a block."""
    heights = [height >> level for level in range(len(self.channel_mults))]
    return [i for i, h in enumerate(heights) if h in self.attention_resolutions]

  def attends_at(self, level: int, height: int) -> bool:
    """Returns whether a level has attention; `len(channel_mults)` is the middle."""
    return level == len(self.channel_mults) or level in self._attending(height)

  def head_dim(self, name: str, level: int) -> int:
    """Returns the width of a head at the site `name` of a level, see `attends_at`.

    Raises:
      UserError: the heads do not divide the channels.
    """
    channels = self.widths[min(level, len(self.widths) - 1)]
    heads, field = self.num_heads, "num_heads"
    if name.startswith("up") and self.num_heads_upsample:
      heads, field = self.num_heads_upsample, "num_heads_upsample"
    if heads < 1 or channels % heads:
      raise UserError(
        f"config.model.{field}: {heads} does not divide the {channels} channels of an "
        "attention level"
      )
    return channels // heads


class FdmUNet(Network):
  """FDM's network: `encode` runs once per window, `denoise` at every noise level."""

  settings: FdmSettings

  def setup(self):
    s = self.settings
    self.backbone = Backbone(s)
    if s.pool_given:
      self.pooled = given.Pooled(s.channels, 4 * s.channels, s.patch, s.dtype)

  def encode(
    self,
    video: Float[ArrayLike, "b t h w c"],
    frames: Frames,
    cond: Mapping[str, Array],
    state: Any = None,
  ) -> Encoded:
    """Keeps the observed frames, and pools their features with `pool_given`.

    Args:
      video: the window; only observed frames are read.
      frames: roles of the frames, [B, T].
      cond: unused.
      state: unused.

    Returns:
      The context: the video, zero where it is not observed, and the features of
      `given.Pooled`, [B, 4 * channels] or None.
    """
    del cond, state
    video = jnp.where(given.per_frame(frames.observed), video, 0.0)
    told = self.pooled(video, frames.observed) if self.settings.pool_given else None
    return Encoded(context=(video, told))

  def denoise(
    self,
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    context: tuple[Float[ArrayLike, "b t h w c"], Float[Array, "b e"] | None],
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Predicts from a noisy window.

    Args:
      z: noisy window; its observed frames are not read.
      level: `diffusion.schedule.Level` of shape [B]: the frames of a window share it.
      frames: roles of the frames, [B, T]; only differences of indices matter.
      context: context made by `encode`.
      dropout: a dropout key per example; None for no dropout.

    Returns:
      The prediction, of `out_channels` channels, or twice as many if it learns its
      variance.
    """
    video, pooled = context
    observed = given.per_frame(frames.observed)
    told = jnp.broadcast_to(observed, (*z.shape[:-1], 1))
    z = jnp.concatenate([jnp.where(observed, video, z), told.astype(z.dtype)], -1)
    if self.settings.show_given:
      z = jnp.concatenate([z, given.neighbours(video, frames)], -1)
    return self.backbone(z, level.time, frames, pooled, dropout)


class Backbone(nn.Module):
  """The U-Net of `denoise`."""

  settings: FdmSettings

  @nn.compact
  def __call__(self, z, time, frames, pooled, dropout):
    s = self.settings
    s.check(*z.shape[2:4])
    z = layers.to_patches(z, s.patch)
    height = z.shape[2]
    widths = s.widths

    emb = layers.sinusoid(time, s.channels)
    emb = layers.Dense(4 * s.channels, dtype=s.dtype, name="embed_0")(emb)
    emb = layers.Dense(4 * s.channels, dtype=s.dtype, name="embed_1")(nn.silu(emb))
    if pooled is not None:
      emb = emb + pooled
    emb = emb[:, None]  # All frames share one level.
    res_block = unet.remat(unet.ResBlock, s.remat)
    frame_attention = unet.remat(FrameAttention, s.remat)
    space_attention = unet.remat(attention.SpaceAttention, s.remat)

    def block(name, width):
      layer = res_block(
        width,
        layers.PER_FRAME,
        s.dropout,
        s.dtype,
        groups=GROUPS,
        scale_shift=s.scale_shift,
        name=name,
      )
      return lambda h: layer(h, emb, dropout)

    def site(name, level):
      if not s.attends_at(level, height):
        return None
      head_dim = s.head_dim(name, level)
      over_time = frame_attention(
        head_dim, s.padding_in_norm, dtype=s.dtype, name=f"{name}_time"
      )
      space = space_attention(
        head_dim,
        layers.PER_FRAME,
        s.attention,
        s.dtype,
        groups=GROUPS,
        normed_residual=True,
        name=f"{name}_space",
      )
      return lambda h: space(over_time(h, emb, frames))

    h = layers.SpaceConv(s.channels, dtype=s.dtype, name="stem")(z)
    h = unet.wire(
      h,
      widths=widths,
      blocks=s.blocks,
      block=block,
      attention=site,
      downsample=lambda name, level: layers.SpaceConv(
        widths[level], stride=2, dtype=s.dtype, name=name
      ),
      upsample=lambda name, level: unet.Upsample(
        widths[level], dtype=s.dtype, name=name
      ),
    )
    norm = layers.GroupNorm(
      layers.PER_FRAME, groups=GROUPS, dtype=s.dtype, name="head_norm"
    )
    out_channels = s.patch**2 * s.out_channels * (2 if s.learn_variance else 1)
    # The prediction is float32, as conversions between x, eps and v need it.
    head = layers.SpaceConv(out_channels, zero_init=True, name="head")
    return layers.from_patches(head(nn.silu(norm(h))), s.patch)
