"""A fifth paper from outside the package: MCVD (Voleti et al. 2022).

    vdm-jax train --config=examples/mcvd.py --workdir=RUN
    vdm-jax sample --workdir=RUN --split=test --given_frames=0,1,6,7 --out=DIR

Past and future frames, each given or not, tell the frames between them: one model
predicts, interpolates and generates. Its network is an image U-Net that sees all frames
of a window at once, as channels. docs/add_a_paper.md goes through this file.

Ours: everything about size and training, x-prediction at low log SNRs, and that a
hidden past or future is sampled and scored (the paper replaces it by zeros).
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from vdm_jax import plans
from vdm_jax.configs import common
from vdm_jax.diffusion import process
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import layers
from vdm_jax.models.network import Encoded, Network
from vdm_jax.systems import DiffusionSystem, sections


class Block(nn.Module):
  """A residual block whose second norm is scaled and shifted by the noise level."""

  features: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] and [B, E] to [B, H, W, features]."""

    def norm(h):
      return layers.GroupNorm(layers.PER_FRAME, dtype=self.dtype)(h)

    def conv(size, h, **kwargs):
      return layers.SpaceConv(self.features, size, dtype=self.dtype, **kwargs)(h)

    told = layers.Dense(2 * self.features, dtype=self.dtype)(embedding)
    scale, shift = jnp.split(told[:, None, None], 2, axis=-1)
    h = conv(3, nn.silu(norm(x)))
    h = conv(3, nn.silu(norm(h) * (1 + scale) + shift), zero_init=True)
    return h + (x if x.shape[-1] == self.features else conv(1, x))


class McvdUNet(Network):
  """An image U-Net over the frames of a window, stacked as channels.

  Attributes:
    channels: base width; level l has channels * channel_mults[l].
    channel_mults: one a level, finest first.
    patch: pixels along an edge of the patches that the levels are made of.
    dtype: of the computation; parameters are float32.
  """

  channels: int
  channel_mults: Sequence[int]
  patch: int
  dtype: Any = jnp.float32

  def encode(self, video, frames: Frames, cond, state=None) -> Encoded:
    """Stacks the given frames, and which they are: once a window."""
    given = process.expand(frames.observed, video.ndim)
    return Encoded(context=jnp.where(given, jnp.concatenate(
      [video, jnp.ones_like(video[..., :1])], axis=-1), 0.0))  # fmt: skip

  @nn.compact
  def denoise(self, z, level, frames: Frames, context, dropout=None) -> jax.Array:
    """Maps z [B, T, H, W, C] at levels [B] to x of the same shape."""
    latent = process.expand(frames.latent, z.ndim)
    x = jnp.concatenate([jnp.where(latent, z, 0.0), context], axis=-1)
    x = jnp.moveaxis(x, 1, 3)  # [B, H, W, T, 2 C + 1]
    x = layers.to_patches(x.reshape(*x.shape[:3], -1), self.patch)
    widths = [self.channels * mult for mult in self.channel_mults]
    embedding = layers.sinusoid(level.time, self.channels)
    for _ in range(2):
      embedding = nn.silu(layers.Dense(4 * self.channels, dtype=self.dtype)(embedding))
    h, skips = layers.SpaceConv(widths[0], dtype=self.dtype)(x), []
    for width in widths:
      if skips:
        h = layers.SpaceConv(width, stride=2, dtype=self.dtype)(h)
      h = Block(width, self.dtype)(h, embedding)
      skips.append(h)
    tokens = layers.GroupNorm(layers.PER_FRAME, dtype=self.dtype)(h)
    tokens = tokens.reshape(len(h), -1, widths[-1])
    attention = nn.MultiHeadDotProductAttention(4, dtype=self.dtype)
    h = h + attention(tokens).reshape(h.shape)
    for width in widths[::-1]:
      if h.shape[1] != skips[-1].shape[1]:
        h = h.repeat(2, axis=1).repeat(2, axis=2)
      h = Block(width, self.dtype)(jnp.concatenate([h, skips.pop()], -1), embedding)
    h = nn.silu(layers.GroupNorm(layers.PER_FRAME)(h))
    out = layers.SpaceConv(z.shape[1] * z.shape[-1] * self.patch**2, zero_init=True)(h)
    out = layers.from_patches(out, self.patch)
    return jnp.moveaxis(out.reshape(*out.shape[:3], z.shape[1], -1), 3, 1)


def build(config: Mapping[str, Any]) -> DiffusionSystem:
  """Builds the system of a config that names this function as `config.system`.

  Raises:
    UserError: the frame does not fit the network, or a field has no such value.
  """
  network = sections.read(
    McvdUNet, config["model"], "config.model", dtype=sections.dtype(config)
  )
  levels = len(network.channel_mults)
  height, width, _ = config["data"]["frame_shape"]
  unit = network.patch << (levels - 1)
  if height % unit or width % unit:
    raise UserError(
      f"config.data.frame_shape: expected multiples of {unit} pixels "
      f"(config.model.patch and {levels} levels), found {height}x{width}"
    )
  return DiffusionSystem(
    network=network, windows=plans.Consecutive(), **sections.shared(config)
  )


def get_config() -> ConfigDict:
  """Makes a config for a CPU: 2 past, 4 present and 2 future frames of 16x16 pixels."""
  config = common.base()
  data = "moving_digits/16px_1digit_8frames_1minspeed_deterministic"
  common.small(config, data, (16, 16, 1))
  config.system = f"{pathlib.Path(__file__).resolve()}:build"
  config.task = common.past_future(2, 4, 2, drop_past=0.5, drop_future=0.5)
  config.model = ConfigDict(dict(channels=64, channel_mults=(1, 2), patch=2))
  config.diffusion.update(common.x_at_low_logsnr())
  config.sampling.update(dict(sampler="ddim", steps=25))
  config.plan.update(dict(overlap=2))
  return config
