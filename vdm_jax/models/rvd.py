"""The networks of RVD (Yang et al. 2022): predictor, context net, denoiser.

Two recurrent networks read the frames before frame t. The predictor predicts its pixels
(`mu`); the states of the context net, one per resolution, go into the denoiser of the
residual `x_t - mu_t`. Nothing else of the past reaches the denoiser, not even `mu`.

The frames before t are known both in training and when t is sampled, so time is
sequential only inside the GRUs: a level's blocks take all frames at once, its GRU scans
over them (`rvd_gru.ConvGru`), and the denoiser takes all scored frames as a batch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Key

from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.models import rvd_blocks as blocks
from vdm_jax.models import unet
from vdm_jax.models.network import Encoded, Network
from vdm_jax.models.rvd_gru import ConvGru

State = dict[str, tuple[Float[Array, "b _h _w _c"], ...]]


@flax.struct.dataclass
class Context:
  """What `denoise` needs of the past, for the last S slots of a window.

  Attributes:
    states: one per level, input of the denoiser; entry t depends on the frames before
      its slot only.
    mu: predictions before clamping; None without a predictor.
    before: the frame before each slot.
  """

  states: list[Float[Array, "b s _h _w _c"]]
  mu: Float[Array, "b s h w c"] | None
  before: Float[Array, "b s h w c"]


@dataclasses.dataclass(frozen=True)
class RvdSettings:
  """Hyperparameters of the three networks.

  Attributes:
    channels: base width; level l of the denoiser has channels * channel_mults[l].
    channel_mults: multipliers of denoiser and context net, one per resolution, finest
      first.
    predictor_mults: multipliers of the predictor.
    context_factor: base width of the context net in units of `channels`; 0 for no
      context net, when the denoiser reads the predictor's states instead.
    predictor_factor: base width of the predictor in units of `channels`.
    recurrent_block: block of predictor and context net, 'resnet' or 'convnext'.
    denoiser_block: block of the denoiser, 'resnet' or 'convnext'.
    residual: whether frames are predicted and the residual is diffused; False has no
      predictor and diffuses the frames themselves (the paper's ablation).
    residual_scale: residuals are divided by this before they are diffused.
    finest_skip: whether the denoiser's way up has two blocks at the finest level, which
      take its skip. The published weights have neither, so that all information about a
      pixel passes through half its resolution.
    join: whether the denoiser takes the clamped prediction and the previous frame
      beside the noisy residual. The authors' denoiser knows of both only by the context
      net's states.
    estimate_frame: whether the denoiser estimates the frame, from which the prediction
      is subtracted to estimate the residual. It helps if frames are simpler than
      residuals, and needs predict = 'x'.
    out_channels: channels of a frame.
    remat: activations of the blocks to recompute, see `unet.remat`.
    dtype: dtype of the computation; parameters and recurrent states are float32.
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
    """Checks that the networks take frames of this size.

    Raises:
      UserError: the networks' stride does not divide the frame, a block does not
        support a width, or the scale of residuals is not positive.
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
      # The denoiser's head has a group norm, whatever its blocks are.
      needs = widths if block == "resnet" else widths[: field == "channels"]
      odd = [w for w in needs if w % blocks.GROUPS]
      if odd or min(widths) < 1:
        raise UserError(
          f"config.model.{field}: level widths {widths} must be multiples of "
          f"{blocks.GROUPS}, the groups of a group norm"
        )


class RvdNetwork(Network):
  """RVD's networks: `encode` runs once per window, `denoise` at every noise level."""

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

  def encode(
    self,
    video: Float[ArrayLike, "b t h w c"],
    frames: Frames,
    cond: Mapping[str, Array],
    state: State | None = None,
    *,
    last: int = 1,
  ) -> Encoded:
    """Reads all frames but the last one; these must be observed.

    Args:
      video: the window, T >= 2; clipped to [-1, 1].
      frames: roles of the frames, [B, T].
      cond: empty, as RVD takes no signals.
      state: state after the window that directly precedes this one; None at the start
        of a video.
      last: number S, 1 to T - 1, of frames at the end of the window that need
        prediction and context.

    Returns:
      `Context` of the last S slots; as base their predictions in [-1, 1], with zeros
      for the slots before; and the state after slot T - 2.
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
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    context: Context,
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Predicts from the noisy residuals of the frames that have a context.

    Args:
      z: noisy residuals.
      level: `diffusion.schedule.Level` of shape [B] or [B, T].
      frames: unused.
      context: context made by `encode`, of the last S <= T slots.
      dropout: unused, as this network has no dropout.

    Returns:
      The prediction; zeros for the first T - S slots, which
      are not computed.
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


def zero_state(s: RvdSettings, video: Float[ArrayLike, "b t h w c"]) -> State:
  """Makes the state before the first frame of a video."""
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
  """A down path with a GRU at every level; by itself it is the context net.

  Attributes:
    widths: channels of each level, finest first.
    block: kind of the blocks.
    remat: activations to recompute, see `unet.remat`.
    dtype: dtype of the computation.
  """

  widths: Sequence[int]
  block: str
  remat: str = "none"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    video: Float[ArrayLike, "b t h w c"],
    state: Sequence[Float[ArrayLike, "b _h _w _c"]],
  ) -> list[Float32[Array, "b t _h _w _c"]]:
    """Computes the GRUs' states after each frame, one array per level.

    Args:
      video: frames.
      state: states before the first frame, one per level.

    Returns:
      The states, one array per level.
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
  """The network that predicts each frame's successor."""

  settings: RvdSettings

  @nn.compact
  def __call__(
    self,
    video: Float[ArrayLike, "b t h w c"],
    state: Sequence[Float[ArrayLike, "b _h _w _c"]],
    last: int,
  ) -> tuple[Float32[Array, "b {last} h w c"], list[Float32[Array, "b t _h _w _c"]]]:
    """Computes predictions before clamping, and the states after each frame.

    Args:
      video: frames.
      state: states before the first frame, one per level.
      last: number S of frames at the end whose successors are predicted.

    Returns:
      Predictions, and states, one array per level.
    """
    s = self.settings
    widths = s.predictor_widths
    down = RecurrentDown(widths, s.recurrent_block, s.remat, s.dtype, name="down")
    states = down(video, state)
    block = blocks.block_class(s.recurrent_block, "config.model.recurrent_block")
    block = unet.remat(block, s.remat)
    # As in the published weights, the finest level's states are read only by the levels
    # below (two levels have no skip at all).
    h = states[-1][:, -last:]
    for stage, level in enumerate(range(len(widths) - 1, 0, -1)):
      if stage:
        h = jnp.concatenate([h, states[level][:, -last:].astype(h.dtype)], axis=-1)
      h = block(widths[level - 1], s.dtype, name=f"up_{stage}")(h)
      h = blocks.Upsample(s.dtype, name=f"up_{stage}_resample")(h)
    # In float32, as what is diffused is the difference of frame and prediction.
    return blocks.Conv(s.out_channels, name="mu")(h), states


class Denoiser(nn.Module):
  """The U-Net on noisy residuals, with the context joined on the way down."""

  settings: RvdSettings

  @nn.compact
  def __call__(
    self,
    z: Float[ArrayLike, "b s h w _c"],
    time: Float[ArrayLike, " b #s"],
    context: Sequence[Float[ArrayLike, "b s _h _w _c"]],
  ) -> Float32[Array, "b s h w c"]:
    """Predicts from noisy residuals; `time` is of each frame, or one for all."""
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
    # As in the predictor, the authors' network does not use the finest level's skip.
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
    # The prediction is float32, as conversions between x and eps need it.
    head = blocks.dense(s.out_channels, jnp.float32, "head_1")
    return head(h.astype(jnp.float32))


def _embed(s: RvdSettings, time: jax.Array) -> jax.Array:
  """Embeds the diffusion step, to [B, S, channels]."""
  half = s.channels // 2
  # Unlike `layers.sinusoid`, the last frequency is 1 / 10000 and sines come first.
  frequency = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / max(half - 1, 1))
  angle = time.astype(jnp.float32)[..., None] * frequency
  features = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
  h = blocks.dense(4 * s.channels, s.dtype, "embed_0")(features)
  return blocks.dense(s.channels, s.dtype, "embed_1")(blocks.gelu(h))
