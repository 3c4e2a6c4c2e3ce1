"""A network that finds where on a map a frame was seen.

FDM's walk metrics are measured by it (Harvey et al. 2022, section 5.3). The authors use
two ResNet-152; here one small network has both heads: one classifies the cell of the
map, the other regresses, for every cell, the position within it. The position is read
from the head of the cell that was chosen.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32, Float64, Int, Int32, Key

from vdm_jax.errors import UserError
from vdm_jax.models import layers


@dataclasses.dataclass(frozen=True)
class Grid:
  """The cells of a map; positions may be numpy or jax arrays.

  Attributes:
    bounds: (x_min, y_min, x_max, y_max), in map units.
    cells: number n; the map has n x n cells, numbered n * ix + iy.
  """

  bounds: tuple[float, float, float, float]
  cells: int

  def __post_init__(self):
    if len(self.bounds) != 4 or not (
      self.bounds[0] < self.bounds[2] and self.bounds[1] < self.bounds[3]
    ):
      raise UserError(
        "config.model.bounds: expected (x_min, y_min, x_max, y_max), found "
        f"{tuple(self.bounds)}"
      )
    if self.cells < 1:
      raise UserError(f"config.model.cells: expected >= 1, found {self.cells}")

  @property
  def size(self) -> Float64[np.ndarray, "2"]:
    """Returns width and height of a cell, in map units."""
    low, high = np.reshape(self.bounds, (2, 2))
    return (high - low) / self.cells

  def cell(
    self, position: Float[Array | np.ndarray, "*shape 2"]
  ) -> Int32[Array | np.ndarray, "*shape"]:
    """Finds the cells of positions; -1 is outside of the map.

    A point between two cells belongs to the higher one, the far edge of the map to the
    last one.
    """
    xp = position.__array_namespace__()
    low, high = (xp.asarray(edge) for edge in np.reshape(self.bounds, (2, 2)))
    inside = xp.all((position >= low) & (position <= high), axis=-1)
    # NaN and positions outside have no meaningful conversion to an integer.
    fraction = xp.where(inside[..., None], position - low, 0.0)
    index = xp.floor(fraction / xp.asarray(self.size)).astype(np.int32)
    index = xp.minimum(index, self.cells - 1)
    return xp.where(inside, self.cells * index[..., 0] + index[..., 1], -1)

  def centre(
    self, cell: Int[Array | np.ndarray, "*shape"]
  ) -> Float[Array | np.ndarray, "*shape 2"]:
    """Computes centres of cells, in map units; float32 for jax."""
    xp = cell.__array_namespace__()
    index = xp.stack([cell // self.cells, cell % self.cells], axis=-1)
    return xp.asarray(self.bounds[:2]) + (index + 0.5) * xp.asarray(self.size)


@dataclasses.dataclass(frozen=True)
class PositionSettings:
  """Size of the network.

  Attributes:
    channels: base width.
    channel_mults: stage l has channels * channel_mults[l] and halves the frame.
    features: width before the heads.
    dropout: dropout rate before the heads.
    dtype: dtype of the computation.
  """

  channels: int
  channel_mults: Sequence[int]
  features: int
  dropout: float = 0.0
  dtype: Any = jnp.float32


class Answer(NamedTuple):
  """The network's output for frames.

  Attributes:
    logits: logits of the cells.
    offset: each cell's estimate of the distance from its centre, in
      cells.
  """

  logits: Float32[Array, "*lead cells"]
  offset: Float32[Array, "*lead cells 2"]


class PositionNetwork(nn.Module):
  """Residual convolutions that halve the frame stage by stage, and two heads.

  Attributes:
    settings: size of the network.
    num_cells: number of cells, n * n.
  """

  settings: PositionSettings
  num_cells: int

  @nn.compact
  def __call__(
    self,
    frames: Float[ArrayLike, "*lead h w c"],
    dropout: Key[Array, " b"] | None = None,
  ) -> Answer:
    """Maps frames in [-1, 1] to an answer.

    `dropout` holds a key per example, along the first axis, or is None.
    """
    s = self.settings
    x = frames.astype(s.dtype)
    for level, mult in enumerate(s.channel_mults):
      width = s.channels * mult
      x = layers.SpaceConv(width, stride=2, dtype=s.dtype, name=f"down_{level}")(x)
      h = self._normed(x, f"norm_{level}_0")
      h = layers.SpaceConv(width, dtype=s.dtype, name=f"conv_{level}")(h)
      x = x + self._normed(h, f"norm_{level}_1")
    # Flattened, not pooled: the place of a wall in the frame tells its distance.
    x = x.reshape(*x.shape[:-3], -1)
    x = nn.relu(layers.Dense(s.features, dtype=s.dtype, name="features")(x))
    x = layers.Dropout(s.dropout, name="dropout")(x, dropout).astype(jnp.float32)
    logits = layers.Dense(self.num_cells, name="classifier")(x)
    # Zero, so that a head that has seen little answers the middle of its cell.
    zeros = nn.initializers.zeros
    offset = layers.Dense(2 * self.num_cells, kernel_init=zeros, name="regressors")(x)
    return Answer(logits, offset.reshape(*logits.shape, 2))

  def _normed(self, x, name):
    norm = layers.GroupNorm(axes=layers.PER_FRAME, dtype=self.settings.dtype, name=name)
    return nn.relu(norm(x))


def position(
  grid: Grid, answer: Answer, cell: Int[ArrayLike, "*lead"]
) -> Float32[Array, "*lead 2"]:
  """Reads positions, in map units, from the heads of cells."""
  offset = jnp.take_along_axis(answer.offset, cell[..., None, None], axis=-2)
  return grid.centre(cell) + offset[..., 0, :] * jnp.asarray(grid.size)
