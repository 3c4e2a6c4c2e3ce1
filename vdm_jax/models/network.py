"""The interface of networks: `encode` once per window, `denoise` at every level."""

from collections.abc import Mapping
from typing import Any, Protocol

import flax
import jax

from vdm_jax.frames import Frames


@flax.struct.dataclass
class Encoded:
  """The result of `encode`.

  Attributes:
    context: input of `denoise`, of whatever form the network chooses.
    base: [B, T, H, W, C] prediction that is subtracted from the video before it is
      diffused, and that takes gradients; None is zero.
    state: recurrent state for the next window; None if there is none.
    scale: what is diffused is (video - base) / scale.
  """

  context: Any = None
  base: jax.Array | None = None
  state: Any = None
  scale: float = 1.0

  def residual(self, video: jax.Array) -> jax.Array:
    """Computes the residual of a video [B, T, H, W, C], which is what is diffused."""
    rest = video if self.base is None else video - self.base
    return rest / self.scale

  @property
  def bounds(self) -> tuple[float | jax.Array, float | jax.Array]:
    """Returns the least and largest residual of videos in [-1, 1]."""
    base = 0.0 if self.base is None else self.base
    return (-1.0 - base) / self.scale, (1.0 - base) / self.scale

  def video(self, residual: jax.Array) -> jax.Array:
    """Computes the video that has this residual."""
    rest = residual * self.scale
    return rest if self.base is None else rest + self.base


class Network(Protocol):
  """A Linen module with these methods; see `models.vdm.VdmUNet`."""

  def __call__(
    self,
    z,
    level,
    frames: Frames,
    cond: Mapping[str, jax.Array],
    dropout: jax.Array | None = None,
  ) -> jax.Array: ...

  def encode(
    self, video, frames: Frames, cond: Mapping[str, jax.Array], state: Any = None
  ) -> Encoded: ...

  def denoise(
    self, z, level, frames: Frames, context: Any, dropout: jax.Array | None = None
  ) -> jax.Array: ...
