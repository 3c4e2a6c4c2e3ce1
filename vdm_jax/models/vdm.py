"""The space-time factorized 3D U-Net of VDM (Ho et al. 2022, section 3).

Convolutions act in space alone. Every residual block at an attention resolution is
followed by attention over space (frames are batch), then by attention over time (space
is batch) with relative positions. Log SNR, class label and text go through an MLP and
are added in every residual block.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Key

from vdm_jax.frames import Frames
from vdm_jax.models import attention, layers, unet
from vdm_jax.models.network import Encoded, Network


@dataclasses.dataclass(frozen=True)
class VdmSettings:
  """Hyperparameters of the network (VDM, appendix A).

  Attributes:
    channels: base width; level l has channels * channel_mults[l].
    channel_mults: one per resolution, finest first.
    blocks: residual blocks per resolution.
    attention_resolutions: heights in pixels at which attention follows a block.
    head_dim: width of an attention head.
    embedding_dim: width of the conditioning embedding.
    mlp_layers: depth of the conditioning MLP.
    dropout: dropout rate in the residual blocks.
    num_labels: number of class labels; 0 for none.
    token_dim: width of text token embeddings; 0 for none.
    patch: edge, in pixels, of the patches that the network works on; heights of levels
      are then in patches. Ours; 1 is the paper's network.
    conv_time: whether convolutions of the residual blocks are 3x3x3. They mix
      neighbouring frames of any group, so clips must not hold independent images. Ours;
      in the paper's network only attention mixes frames.
    out_channels: channels of the prediction.
    remat: activations to recompute, see `unet.remat`.
    attention: implementation of attention over space, see `attention.attend`.
    time_attention: implementation of attention over time, see
      `attention.attend_over_time`.
    dtype: dtype of the computation; parameters are float32.
  """

  channels: int
  channel_mults: Sequence[int] = (1, 2, 4, 8)
  blocks: int = 2
  attention_resolutions: Sequence[int] = (8, 16, 32)
  head_dim: int = 64
  embedding_dim: int = 1024
  mlp_layers: int = 4
  dropout: float = 0.0
  num_labels: int = 0
  token_dim: int = 0
  patch: int = 1
  conv_time: bool = False
  out_channels: int = 3
  remat: str = "none"
  attention: str = "auto"
  time_attention: str = "xla"
  dtype: Any = jnp.float32

  def check(self, height: int, width: int) -> None:
    """Checks that the network takes frames of this size.

    Raises:
      UserError: the U-Net's stride does not divide the frame, an attention
        resolution never occurs, or a head width does not divide its channels.
    """
    levels = len(self.channel_mults)
    height, width = unet.check_patch(height, width, self.patch)
    unet.check_frame(height, width, levels, self.attention_resolutions)
    heights = [height >> level for level in range(levels)]
    for mult, resolution in zip(self.channel_mults, heights, strict=True):
      if resolution in self.attention_resolutions:
        attention.heads_of(self.channels * mult, self.head_dim)


class VdmUNet(Network):
  """VDM's network: `encode` runs once per window, `denoise` at every noise level."""

  settings: VdmSettings

  def setup(self):
    self.conditioning = Conditioning(self.settings)
    self.backbone = Backbone(self.settings)

  def encode(
    self,
    video: Float[ArrayLike, "b t h w c"],
    frames: Frames,
    cond: Mapping[str, Array],
    state: Any = None,
  ) -> Encoded:
    """Embeds the conditioning signals, once per window.

    Args:
      video: not read, as this network knows nothing of observed frames (guidance
        handles them).
      frames: roles of the frames, [B, T].
      cond: any of 'label' int32 [B, G] (-1 is none) and 'tokens' [B, G, L, D] with
        'token_mask' bool [B, G, L] (all false is none).
      state: unused.

    Returns:
      The context, `embedding_dim` wide: for each frame the embedding of its group,
      exactly zero without signals.
    """
    del video, state
    return Encoded(context=self.conditioning(frames, cond))

  def denoise(
    self,
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    context: Float[ArrayLike, "b t e"],
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Predicts from a noisy window.

    Args:
      z: noisy window.
      level: `diffusion.schedule.Level` of shape [B] or [B, T].
      frames: roles of the frames, [B, T].
      context: context made by `encode`.
      dropout: a dropout key per example; None for no dropout.

    Returns:
      The prediction, of `out_channels` channels.
    """
    return self.backbone(z, level.time, frames, context, dropout)


class Conditioning(nn.Module):
  """Embeds label and text of each group, for all frames of the group."""

  settings: VdmSettings

  @nn.compact
  def __call__(self, frames, cond):
    s = self.settings
    batch, length = frames.index.shape
    embedded = jnp.zeros((batch, 1, s.embedding_dim), s.dtype)
    if s.num_labels:
      # As large as the time features it is added to, as a smaller one is learned late.
      table = nn.Embed(
        s.num_labels,
        s.embedding_dim,
        embedding_init=nn.initializers.normal(1.0),
        dtype=s.dtype,
        name="label",
      )
      label = cond.get("label", jnp.full((batch, 1), -1))
      known = (label >= 0)[..., None]
      embedded = embedded + jnp.where(known, table(jnp.maximum(label, 0)), 0)
    if s.token_dim:
      pool = attention.AttentionPool(s.embedding_dim, dtype=s.dtype, name="text")
      tokens = cond.get("tokens", jnp.zeros((batch, 1, 1, s.token_dim)))
      mask = cond.get("token_mask", jnp.zeros(tokens.shape[:-1], bool))
      embedded = embedded + pool(tokens.astype(s.dtype), mask)
    groups = embedded.shape[1]
    per_frame = jnp.take_along_axis(
      embedded, jnp.clip(frames.group, 0, groups - 1)[..., None], axis=1
    )
    # A group without signals of its own (padding) is unconditional.
    return jnp.where((frames.group < groups)[..., None], per_frame, 0)


class Backbone(nn.Module):
  """The U-Net of `denoise`."""

  settings: VdmSettings

  @nn.compact
  def __call__(self, z, time, frames, context, dropout):
    s = self.settings
    s.check(*z.shape[2:4])
    z = layers.to_patches(z, s.patch)
    widths = [s.channels * mult for mult in s.channel_mults]
    heights = [z.shape[2] >> level for level in range(len(widths))]
    heights.append(heights[-1])  # the middle
    norm_axes = layers.PER_FRAME
    conv = layers.SpaceTimeConv if s.conv_time else layers.SpaceConv

    emb = _embed(s, time, context)
    res_block = unet.remat(unet.ResBlock, s.remat)
    space_attention = unet.remat(attention.SpaceAttention, s.remat)
    time_attention = unet.remat(attention.TimeAttention, s.remat)

    def block(name, width):
      layer = res_block(width, norm_axes, s.dropout, s.dtype, conv=conv, name=name)
      return lambda h: layer(h, emb, dropout)

    def site(name, level):
      if heights[level] not in s.attention_resolutions:
        return None
      space = space_attention(
        s.head_dim, norm_axes, s.attention, s.dtype, name=f"{name}_space"
      )
      over_time = time_attention(
        s.head_dim,
        norm_axes,
        implementation=s.time_attention,
        dtype=s.dtype,
        name=f"{name}_time",
      )
      return lambda h: over_time(space(h), frames)

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
    h = nn.silu(layers.GroupNorm(norm_axes, dtype=s.dtype, name="head_norm")(h))
    # The prediction is float32, as conversions between x, eps and v need it.
    head = layers.SpaceConv(s.patch**2 * s.out_channels, zero_init=True, name="head")
    return layers.from_patches(head(h), s.patch)


def _embed(s: VdmSettings, time: jax.Array, context: jax.Array) -> jax.Array:
  """Embeds noise level and context, to [B, T, embedding_dim]."""
  features = layers.sinusoid(time, s.channels)
  emb = layers.Dense(s.embedding_dim, dtype=s.dtype, name="embed_0")(features)
  if time.ndim == 1:
    emb = emb[:, None]
  emb = emb + context
  for i in range(1, s.mlp_layers):
    emb = layers.Dense(s.embedding_dim, dtype=s.dtype, name=f"embed_{i}")(nn.silu(emb))
  return emb
