"""The interface of networks: `encode` once per window, `denoise` at every level."""

from collections.abc import Mapping
from typing import Any

import flax
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Key

from vdm_jax.frames import Frames


@flax.struct.dataclass
class Encoded:
  """The result of `encode`.

  Attributes:
    context: input of `denoise`, of whatever form the network chooses.
    base: prediction that is subtracted from the video before it is
      diffused, and that takes gradients; None is zero.
    state: recurrent state for the next window; None if there is none.
    scale: what is diffused is (video - base) / scale.
  """

  context: Any = None
  base: Float[Array, "b t h w c"] | None = None
  state: Any = None
  scale: float = 1.0

  def residual(
    self, video: Float[ArrayLike, "b t h w c"]
  ) -> Float[ArrayLike, "b t h w c"]:
    """Computes the residual of a video, which is what is diffused."""
    rest = video if self.base is None else video - self.base
    return rest / self.scale

  @property
  def bounds(self) -> tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]]:
    """Returns the least and largest residual of videos in [-1, 1]."""
    base = 0.0 if self.base is None else self.base
    return (-1.0 - base) / self.scale, (1.0 - base) / self.scale

  def video(
    self, residual: Float[ArrayLike, "b t h w c"]
  ) -> Float[ArrayLike, "b t h w c"]:
    """Computes the video that has this residual."""
    rest = residual * self.scale
    return rest if self.base is None else rest + self.base


class Network(nn.Module):
  """A network of videos: a module with `encode` and `denoise`, see `models.vdm`."""

  def __call__(
    self,
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    cond: Mapping[str, Array],
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Runs `encode`, then `denoise`, so that every parameter is initialised."""
    encoded = self.encode(z, frames, cond)
    return self.denoise(z, level, frames, encoded.context, dropout)

  def encode(
    self,
    video: Float[ArrayLike, "b t h w c"],
    frames: Frames,
    cond: Mapping[str, Array],
    state: Any = None,
  ) -> Encoded:
    """Encodes a window, once for all noise levels."""
    raise NotImplementedError

  def denoise(
    self,
    z: Float[ArrayLike, "b t h w c"],
    level: Any,
    frames: Frames,
    context: Any,
    dropout: Key[Array, " b"] | None = None,
  ) -> Float32[Array, "b t h w k"]:
    """Predicts from noisy videos; k is C, or 2 C with a learned variance."""
    raise NotImplementedError
