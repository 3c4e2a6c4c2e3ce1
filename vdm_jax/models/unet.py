"""The U-Net wiring that VDM, FDM and RaMViD share, and its residual block.

The wiring is that of the image diffusion U-Nets: a skip after the stem, after every
block and after every downsampling, each concatenated once on the way up. The caller
supplies the blocks, attention sites and resamplings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, ArrayLike, Float, Key

from vdm_jax.errors import UserError
from vdm_jax.models import layers

Layer = Callable[[Float[Array, "..."]], Float[Array, "..."]]
REMAT = ("none", "convolutions", "block")
# Name of the activations that 'convolutions' keeps, see `kept`.
_KEPT = "convolution"


def wire(
  h: Float[ArrayLike, "*lead c"],
  *,
  widths: Sequence[int],
  blocks: int,
  block: Callable[[str, int], Layer],
  attention: Callable[[str, int], Layer | None],
  downsample: Callable[[str, int], Layer],
  upsample: Callable[[str, int], Layer],
) -> Float[Array, "*lead {widths[0]}"]:
  """Runs a U-Net.

  Args:
    h: the stem's output.
    widths: channels of each level, finest first.
    blocks: residual blocks per level on the way down; one more on the way up.
    block: maps (name, width) to a residual block.
    attention: maps (name, level) to an attention site, or to None if there is none;
      level `len(widths)` is the middle.
    downsample, upsample: map (name, level) to the resampling that leaves this level.

  Returns:
    The output of the last block.
  """
  last = len(widths) - 1
  skips = [h]

  def step(h, name, width, level):
    h = block(name, width)(h)
    site = attention(f"{name}_attention", level)
    return h if site is None else site(h)

  for level, width in enumerate(widths):
    for i in range(blocks):
      h = step(h, f"down_{level}_{i}", width, level)
      skips.append(h)
    if level < last:
      h = downsample(f"down_{level}_resample", level)(h)
      skips.append(h)

  h = step(h, "middle_0", widths[-1], len(widths))
  h = block("middle_1", widths[-1])(h)

  for level in range(last, -1, -1):
    for i in range(blocks + 1):
      h = jnp.concatenate([h, skips.pop()], axis=-1)
      h = step(h, f"up_{level}_{i}", widths[level], level)
    if level > 0:
      h = upsample(f"up_{level}_resample", level)(h)
  return h


def check_patch(height: int, width: int, patch: int) -> tuple[int, int]:
  """Returns height and width of a frame in patches.

  Raises:
    UserError: the patch size does not divide the frame.
  """
  if patch < 1 or height % patch or width % patch:
    raise UserError(
      f"config.model.patch: {patch} does not divide frames of {height}x{width}"
    )
  return height // patch, width // patch


def check_frame(
  height: int, width: int, levels: int, attention_resolutions: Sequence[int]
) -> None:
  """Checks that a U-Net takes frames of this size.

  Raises:
    UserError: the stride of its levels does not divide the frame, or an attention
      resolution (a height) never occurs.
  """
  stride = 2 ** (levels - 1)
  if height % stride or width % stride:
    raise UserError(
      f"config.data.frame_shape: {height}x{width} is not divisible by the U-Net's "
      f"stride {stride} (config.model.channel_mults has {levels} levels)"
    )
  occurring = [height >> level for level in range(levels)]
  for resolution in attention_resolutions:
    if resolution not in occurring:
      raise UserError(
        f"config.model.attention_resolutions: {resolution} never occurs; "
        f"the levels of a {height}x{width} frame are {occurring} pixels high"
      )


class ResBlock(nn.Module):
  """A residual block of two convolutions, conditioned on an embedding.

  Attributes:
    features: output channels.
    norm_axes: axes over which the group norms take their statistics.
    dropout: dropout rate before the last convolution.
    dtype: dtype of the computation.
    groups: channel groups of the group norms, see `layers.GroupNorm`.
    scale_shift: whether the embedding scales and shifts the result of the second norm
      or is added before that norm.
    conv: the convolution, `layers.SpaceConv` or `layers.SpaceTimeConv`.
  """

  features: int
  norm_axes: Sequence[int]
  dropout: float = 0.0
  dtype: Any = jnp.float32
  groups: int = 0
  scale_shift: bool = False
  conv: Callable[..., nn.Module] = layers.SpaceConv

  @nn.compact
  def __call__(
    self,
    x: Float[ArrayLike, "b t h w c"],
    emb: Float[ArrayLike, " b #t e"],
    dropout: Key[Array, " b"] | None = None,
  ) -> Float[Array, "b t h w {self.features}"]:
    """Maps frames and their embedding, or one embedding of all frames of a video.

    `dropout` holds a key per example, or is None.
    """

    def norm(name):
      return layers.GroupNorm(
        self.norm_axes, groups=self.groups, dtype=self.dtype, name=name
      )

    h = nn.silu(norm("norm_0")(x))
    h = kept(self.conv(self.features, dtype=self.dtype, name="conv_0")(h))
    width = 2 * self.features if self.scale_shift else self.features
    emb = layers.Dense(width, dtype=self.dtype, name="embedding")(nn.silu(emb))
    emb = emb[..., None, None, :]
    if self.scale_shift:
      scale, shift = jnp.split(emb, 2, axis=-1)
      h = norm("norm_1")(h) * (1 + scale) + shift
    else:
      h = norm("norm_1")(h + emb)
    h = nn.silu(h)
    h = layers.Dropout(self.dropout, name="dropout")(h, dropout)
    h = self.conv(self.features, zero_init=True, dtype=self.dtype, name="conv_1")(h)
    if x.shape[-1] != self.features:
      x = layers.Dense(self.features, dtype=self.dtype, name="skip")(x)
    return x + h


class Upsample(nn.Module):
  """Nearest-neighbour doubling in space, then a convolution."""

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*lead h w c"]
  ) -> Float[Array, "*lead h_out w_out {self.features}"]:
    x = jnp.repeat(jnp.repeat(x, 2, axis=-3), 2, axis=-2)
    return layers.SpaceConv(self.features, dtype=self.dtype, name="conv")(x)


def kept(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
  """Marks a convolution's result as one that the policy 'convolutions' keeps.

  The result of a block's last convolution is not marked, as the backward pass does not
  use it.
  """
  return checkpoint_name(x, _KEPT)


def remat(module: type[nn.Module], policy: str):
  """Wraps a module class so that the backward pass recomputes its activations.

  Args:
    module: a Linen module class.
    policy: 'none' keeps all activations, 'block' only a block's input, 'convolutions'
      also what the block marks as `kept`, so that its costly half is not recomputed.

  Raises:
    UserError: there is no such policy.
  """
  if policy == "dots":  # In configs of older runs; it took more memory.
    policy = "convolutions"
  if policy not in REMAT:
    raise UserError(f"config.model.remat: expected one of {REMAT}, found {policy!r}")
  if policy == "none":
    return module
  save = jax.checkpoint_policies.save_only_these_names(_KEPT)
  return nn.remat(module, policy=save if policy == "convolutions" else None)
