"""The networks of RVD (Yang et al. 2022): predictor, context net, denoiser.

Two recurrent networks read the frames before frame t. The predictor guesses it,
pixel by pixel (`mu`); the context net's states, one a resolution, go into the
denoiser of the residual `x_t - mu_t`. Nothing else of the past reaches the denoiser,
`mu` included.

Frames before t are known in training and when t is sampled, so time is sequential
only inside the GRUs: a level's blocks take all frames at once, its GRU scans over
them (`rvd_gru.ConvGru`), and the denoiser takes all scored frames as a batch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import rvd_blocks as blocks
from vdm_jax.models import unet
from vdm_jax.models.network import Encoded
from vdm_jax.models.rvd_gru import ConvGru

State = dict[str, tuple[jax.Array, ...]]


@flax.struct.dataclass
class Context:
  """What `encode` tells of the last S slots of a window.

  Attributes:
    states: [B, S, h, w, c] a level, for the denoiser: entry t is made from the frames
      before its slot.
    mu: [B, S, H, W, C], predictions before their clamp; None without a predictor.
    before: [B, S, H, W, C], the frame before each slot.
  """

  states: list[jax.Array]
  mu: jax.Array | None
  before: jax.Array


@dataclasses.dataclass(frozen=True)
class RvdSettings:
  """Hyperparameters of the three networks.

  Attributes:
    channels: base width; level l of the denoiser has channels * channel_mults[l].
    channel_mults: one per resolution, finest first; of denoiser and context net.
    predictor_mults: the same of the predictor.
    context_factor: base width of the context net in units of `channels`; 0 for no such
      net: the denoiser then reads the predictor's states.
    predictor_factor: of the predictor.
    recurrent_block: 'resnet' or 'convnext', of predictor and context net.
    denoiser_block: the same of the denoiser.
    residual: predict frames, and diffuse what the prediction missed; False has no
      predictor and diffuses the frames themselves (the paper's ablation).
    residual_scale: what residuals are divided by before they are diffused.
    finest_skip: the denoiser's way up has two blocks at the finest level, which see its
      skip. The published weights have neither: all that is known of a pixel passes
      through half its resolution.
    join: the denoiser sees, beside the noisy residual, the clamped prediction and the
      frame before. The authors' knows of both by the context net's states alone.
    estimate_frame: the denoiser puts out an estimate of the frame, and what that leaves
      of the prediction is the estimate of the residual: where frames are simpler than
      what a prediction missed of them. Wants predict = 'x'.
    out_channels: channels of a frame.
    remat: of the blocks, see `unet.remat`.
    dtype: of the computation; parameters and recurrent states are float32.
  """

  channels: int
  channel_mults: Sequence[int] = (1, 2, 4, 8)
  predictor_mults: Sequence[int] = (1, 2, 2, 4)
  context_factor: float = 1.0
  predictor_factor: float = 1.0
  recurrent_block: str = "resnet"
  denoiser_block: str = "resnet"
  residual: bool = True
  residual_scale: float = 1.0
  finest_skip: bool = False
  join: bool = False
  estimate_frame: bool = False
  out_channels: int = 3
  remat: str = "none"
  dtype: Any = jnp.float32

  @property
  def widths(self) -> tuple[int, ...]:
    return tuple(self.channels * mult for mult in self.channel_mults)

  @property
  def context_widths(self) -> tuple[int, ...]:
    base = int(self.context_factor * self.channels)
    return tuple(base * mult for mult in self.channel_mults)

  @property
  def predictor_widths(self) -> tuple[int, ...]:
    base = int(self.predictor_factor * self.channels)
    return tuple(base * mult for mult in self.predictor_mults)

  def check(self, height: int, width: int) -> None:
    """Checks that frames of this size go through.

    Raises:
      UserError: the networks' stride does not divide the frame, a block cannot have
        a width, or the scale of residuals is not positive.
    """
    depth = len(self.channel_mults)
    if self.residual:
      depth = max(depth, len(self.predictor_mults))
    stride = 2 ** (depth - 1)
    if height % stride or width % stride:
      raise UserError(
        f"config.data.frame_shape: {height}x{width} is not a multiple of {stride}, "
        f"the stride of networks of {depth} levels: height and width must be"
      )
    shared = len(self.predictor_mults) == len(self.channel_mults)
    if not self.context_factor and not (self.residual and shared):
      raise UserError(
        "config.model.context_factor: without a context net (0) the denoiser reads the "
        "predictor's states: expected residual = True and predictor_mults of as many "
        f"levels as channel_mults, found {len(self.predictor_mults)} and "
        f"{len(self.channel_mults)}"
      )
    if self.estimate_frame and not self.residual:
      raise UserError(
        "config.model.estimate_frame: with config.model.residual = False frames are "
        "what is estimated anyway: expected False"
      )
    if self.residual_scale <= 0:
      raise UserError(
        f"config.model.residual_scale: expected > 0, found {self.residual_scale}"
      )
    named = [("channels", self.widths, self.denoiser_block)]
    if self.context_factor:
      named.append(("context_factor", self.context_widths, self.recurrent_block))
    if self.residual:
      named.append(("predictor_factor", self.predictor_widths, self.recurrent_block))
    for field, widths, block in named:
      # The denoiser's head has a group norm, whatever its blocks.
      needs = widths if block == "resnet" else widths[: field == "channels"]
      odd = [w for w in needs if w % blocks.GROUPS]
      if odd or min(widths) < 1:
        raise UserError(
          f"config.model.{field}: level widths {widths} must be multiples of "
          f"{blocks.GROUPS}, the groups of a group norm"
        )


class RvdNetwork(nn.Module):
  """The three networks: `encode` once per window, `denoise` at every noise level."""

  settings: RvdSettings

  def setup(self):
    s = self.settings
    if s.context_factor:
      self.context = RecurrentDown(
        s.context_widths, s.recurrent_block, s.remat, s.dtype
      )
    self.denoiser = Denoiser(s)
    if s.residual:
      self.predictor = Predictor(s)

  def __call__(self, z, level, frames, cond, dropout=None):
    """`encode` then `denoise`: initialises every parameter."""
    encoded = self.encode(z, frames, cond)
    return self.denoise(z, level, frames, encoded.context, dropout)

  def encode(
    self,
    video: jax.Array,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    state: State | None = None,
    *,
    last: int = 1,
  ) -> Encoded:
    """Reads all frames but the last one; those read must be observed.

    Args:
      video: [B, T, H, W, C], T >= 2; clipped to [-1, 1].
      frames: of shape [B, T].
      cond: none; RVD takes no signals.
      state: of the window before, whose frames come right before these; None at
        the start of a video.
      last: S, for how many frames at the end of the window prediction and context
        are wanted; 1 to T - 1.

    Returns:
      `Context` of the last S slots; as base their predictions in [-1, 1], and zeros
      for the slots before; the state after slot T - 2.
    """
    del frames, cond
    length = video.shape[1]
    if not 1 <= last < length:
      raise UserError(
        f"RVD predicts from frames before: a window of {length} frames cannot have "
        f"{last} predicted ones"
      )
    s = self.settings
    seen = jnp.clip(video[:, :-1].astype(jnp.float32), -1.0, 1.0)
    if state is None:
      state = zero_state(s, seen)
    new, states = {}, None
    if s.context_factor:
      states = self.context(seen, state["context"])
      new["context"] = tuple(h[:, -1] for h in states)
    base = mu = None
    if s.residual:
      mu, predictor_states = self.predictor(seen, state["predictor"], last)
      new["predictor"] = tuple(h[:, -1] for h in predictor_states)
      states = predictor_states if states is None else states
      before = [(0, 0), (length - last, 0), (0, 0), (0, 0), (0, 0)]
      base = jnp.pad(jnp.clip(mu, -1.0, 1.0), before)
    context = Context([h[:, -last:] for h in states], mu, seen[:, -last:])
    return Encoded(context=context, base=base, state=new, scale=s.residual_scale)

  def denoise(
    self,
    z: jax.Array,
    level: Any,
    frames: Frames,
    context: Context,
    dropout: jax.Array | None = None,
  ) -> jax.Array:
    """The prediction for the noisy residuals of the frames that have a context.

    Args:
      z: [B, T, H, W, C].
      level: `diffusion.schedule.Level`, of shape [B] or [B, T].
      frames: not looked at.
      context: from `encode`, of the last S <= T slots.
      dropout: not looked at; this network drops nothing.

    Returns:
      float32 [B, T, H, W, C]; zeros for the first T - S slots, which are not computed.
    """
    del frames, dropout
    first = z.shape[1] - context.states[0].shape[1]
    time = level.time[:, first:] if level.time.ndim == 2 else level.time[:, None]
    z = z[:, first:]
    s = self.settings
    mu = None if context.mu is None else jnp.clip(context.mu, -1.0, 1.0)
    if s.estimate_frame:
      z = mu + s.residual_scale * z
    if s.join:
      seen = [context.before] if mu is None else [context.before, mu]
      z = jnp.concatenate([z, *(a.astype(z.dtype) for a in seen)], axis=-1)
    output = self.denoiser(z, time, context.states)
    if s.estimate_frame:
      output = (output - mu) / s.residual_scale
    return jnp.pad(output, [(0, 0), (first, 0), (0, 0), (0, 0), (0, 0)])


def zero_state(s: RvdSettings, video: jax.Array) -> State:
  """The state before the first frame of a video [B, T, H, W, C]."""
  batch, _, height, width, _ = video.shape

  def zeros(widths):
    return tuple(
      jnp.zeros((batch, height >> level, width >> level, w))
      for level, w in enumerate(widths)
    )

  state = {}
  if s.context_factor:
    state["context"] = zeros(s.context_widths)
  if s.residual:
    state["predictor"] = zeros(s.predictor_widths)
  return state


class RecurrentDown(nn.Module):
  """A down path with a GRU at every level; by itself, the context net.

  Attributes:
    widths: channels of each level, finest first.
    block: name of the blocks.
    remat: see `unet.remat`.
    dtype: of the computation.
  """

  widths: Sequence[int]
  block: str
  remat: str = "none"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, state: Sequence[jax.Array]) -> list[jax.Array]:
    """The GRU's states after each frame, one array a level.

    Args:
      video: [B, T, H, W, C].
      state: before the first frame, [B, h, w, c] a level.

    Returns:
      float32 [B, T, h, w, c] a level.
    """
    block = blocks.block_class(self.block, "config.model.recurrent_block")
    block = unet.remat(block, self.remat)
    states, h = [], video
    for level, width in enumerate(self.widths):
      if level:
        h = blocks.Conv(
          self.widths[level - 1], stride=2, dtype=self.dtype, name=f"down_{level - 1}"
        )(h)
      h = block(width, self.dtype, name=f"block_{level}")(h)
      gru = ConvGru(width, self.dtype, name=f"gru_{level}")
      h = gru(h, state[level])
      states.append(h)
    return states


class Predictor(nn.Module):
  """Predicts each frame's successor."""

  settings: RvdSettings

  @nn.compact
  def __call__(
    self, video: jax.Array, state: Sequence[jax.Array], last: int
  ) -> tuple[jax.Array, list[jax.Array]]:
    """Predictions before their clamp, and the states after each frame.

    Args:
      video: [B, T, H, W, C].
      state: before the first frame.
      last: S, for how many frames at the end a successor is predicted.

    Returns:
      float32 [B, S, H, W, C], and per level [B, T, h, w, c].
    """
    s = self.settings
    widths = s.predictor_widths
    down = RecurrentDown(widths, s.recurrent_block, s.remat, s.dtype, name="down")
    states = down(video, state)
    block = blocks.block_class(s.recurrent_block, "config.model.recurrent_block")
    block = unet.remat(block, s.remat)
    # The states of the finest level are read by the levels below alone (two levels
    # have no skip at all): so it is in the published weights.
    h = states[-1][:, -last:]
    for stage, level in enumerate(range(len(widths) - 1, 0, -1)):
      if stage:
        h = jnp.concatenate([h, states[level][:, -last:].astype(h.dtype)], axis=-1)
      h = block(widths[level - 1], s.dtype, name=f"up_{stage}")(h)
      h = blocks.Upsample(s.dtype, name=f"up_{stage}_resample")(h)
    # In float32: what is diffused is the difference of frame and prediction.
    return blocks.Conv(s.out_channels, name="mu")(h), states


class Denoiser(nn.Module):
  """The U-Net on noisy residuals, with the context joined on the way down."""

  settings: RvdSettings

  @nn.compact
  def __call__(
    self, z: jax.Array, time: jax.Array, context: Sequence[jax.Array]
  ) -> jax.Array:
    """[B, S, H, W, .], time [B, S] or [B, 1], to float32 [B, S, H, W, C]."""
    s = self.settings
    widths = s.widths
    emb = _embed(s, time)
    block_class = blocks.block_class(s.denoiser_block, "config.model.denoiser_block")
    block_class = unet.remat(block_class, s.remat)
    site_class = unet.remat(blocks.LinearAttention, s.remat)

    def block(name, width, h):
      return block_class(width, s.dtype, name=name)(h, emb)

    def site(name, h):
      return site_class(s.dtype, name=f"{name}_attention")(h)

    skips, h = [], z.astype(s.dtype)
    for level, width in enumerate(widths):
      h = block(f"down_{level}_0", width, h)
      h = jnp.concatenate([h, context[level].astype(h.dtype)], axis=-1)
      h = site(f"down_{level}", block(f"down_{level}_1", width, h))
      skips.append(h)
      if level < len(widths) - 1:
        h = blocks.Conv(width, stride=2, dtype=s.dtype, name=f"down_{level}_resample")(
          h
        )
    h = block("middle_0", widths[-1], h)
    h = block("middle_1", widths[-1], site("middle", h))
    # As in the predictor, the authors do not use the skip of the finest level.
    for stage, level in enumerate(range(len(widths) - 1, 0, -1)):
      h = jnp.concatenate([h, skips[level]], axis=-1)
      h = block(f"up_{stage}_0", widths[level - 1], h)
      h = block(f"up_{stage}_1", widths[level - 1], h)
      h = site(f"up_{stage}", h)
      h = blocks.Upsample(s.dtype, name=f"up_{stage}_resample")(h)
    if s.finest_skip:
      h = jnp.concatenate([h, skips[0]], axis=-1)
      h = block("finest_0", widths[0], h)
      h = block("finest_1", widths[0], h)
    h = blocks.HalfBlock(widths[0], s.dtype, name="head_0")(h)
    # The prediction leaves in float32: conversions between x and eps need it.
    head = blocks.dense(s.out_channels, jnp.float32, "head_1")
    return head(h.astype(jnp.float32))


def _embed(s: RvdSettings, time: jax.Array) -> jax.Array:
  """The embedding of the diffusion step, [B, S, channels]."""
  half = s.channels // 2
  # The last frequency is 1 / 10000 itself, sines come first.
  frequency = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / max(half - 1, 1))
  angle = time.astype(jnp.float32)[..., None] * frequency
  features = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  h = blocks.dense(4 * s.channels, s.dtype, "embed_0")(features)
  return blocks.dense(s.channels, s.dtype, "embed_1")(blocks.gelu(h))
