"""The position regressor, a system that trains like the others but cannot sample.

It reads single frames, so any task will do: every frame of a clip counts by itself.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vdm_jax import frames as frames_lib
from vdm_jax import tasks
from vdm_jax.errors import UserError
from vdm_jax.models import position_regressor
from vdm_jax.pixels import to_float
from vdm_jax.systems import parts, sections

# Fields of config.model that are not settings of the network.
_OWN = (
  "bounds", "cells", "extra", "extra_width", "regression_weight", "brightness", "blur",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PositionRegressor:
  """Predicts the position from which a frame was seen.

  Attributes:
    network: network with the heads for cell and position.
    grid: cells of the map.
    task: task that chooses the frames.
    frame_shape: (H, W, C).
    extra: per-frame extra of the data set whose first two values are (x, y).
    extra_width: number of values of that extra.
    regression_weight: weight of the squared error of positions, in cells.
    brightness: augmentation scales pixels by 1 +- this, and shifts them as much.
    blur: augmentation mixes in at most this share of a 3 x 3 mean, twice.
  """

  network: position_regressor.PositionNetwork
  grid: position_regressor.Grid
  task: tasks.Task
  frame_shape: tuple[int, int, int]
  extra: str = "pose"
  extra_width: int = 3
  regression_weight: float = 1.0
  brightness: float = 0.0
  blur: float = 0.0
  cond = parts.CondSpec()
  pipeline_cond = ()
  can_sample = False

  @property
  def pipeline_extras(self) -> tuple[str, ...]:
    return (self.extra,)

  def batch_spec(self, batch_size: int) -> dict[str, Any]:
    """Shapes and dtypes of a training batch."""
    b, t = batch_size, self.task.num_frames
    extra = jax.ShapeDtypeStruct((b, t, self.extra_width), jnp.float32)
    return {
      "video": jax.ShapeDtypeStruct((b, t, *self.frame_shape), jnp.uint8),
      "frames": frames_lib.spec(b, t),
      "cond": {},
      "extras": {self.extra: extra},
    }

  def init(self, key: jax.Array) -> Any:
    """Makes float32 parameters."""
    return self.network.init(key, jnp.zeros((1, *self.frame_shape)))["params"]

  def loss(
    self, params: Any, batch: Mapping[str, Any], key: jax.Array, train: bool
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the cells' cross-entropy plus the squared error of the true cell's head.

    Frames outside the map count only in the metric `outside`.
    """
    video = to_float(batch["video"])
    dropout = None
    if train:
      of_each = jax.vmap(jax.random.fold_in, (None, 0))
      augment, dropout = (
        of_each(part, batch["example"]) for part in jax.random.split(key)
      )
      video = jax.vmap(self._augment)(augment, video)
    answer = self.network.apply({"params": params}, video, dropout)
    truth = batch["extras"][self.extra][..., :2]
    cell = self.grid.cell(truth)
    valid = batch.get("valid", jnp.ones(len(video), bool))
    valid = jnp.broadcast_to(valid[:, None], cell.shape)
    counts = valid & (cell >= 0)
    known = jnp.maximum(cell, 0)
    size = jnp.asarray(self.grid.size)
    error = (position_regressor.position(self.grid, answer, known) - truth) / size
    losses = optax.softmax_cross_entropy_with_integer_labels(answer.logits, known)
    squared = jnp.sum(jnp.square(error), axis=-1)
    losses = losses + self.regression_weight * squared
    named = answer.logits.argmax(-1)
    distance = position_regressor.position(self.grid, answer, named) - truth

    def mean(values, where):
      where = where.astype(jnp.float32)
      return jnp.stack([jnp.sum(values * where), jnp.sum(where)])

    metrics = {
      "loss": mean(losses, counts),
      "cell_accuracy": mean(named == cell, counts),
      "position_error": mean(jnp.linalg.norm(distance, axis=-1), counts),
      "outside": mean(cell < 0, valid),
    }
    total, count = metrics["loss"]
    return total / jnp.maximum(count, 1.0), metrics

  def predict(self, params: Any, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Predicts positions float32 [..., 2] and cells int32 [...].

    Args:
      params: parameters of the network.
      frames: frames, uint8 [..., H, W, C].
    """
    answer = self.network.apply({"params": params}, to_float(frames))
    cell = answer.logits.argmax(-1)
    return position_regressor.position(self.grid, answer, cell), cell

  def _augment(self, key: jax.Array, clip: jax.Array) -> jax.Array:
    """Augments a clip [T, H, W, C] by brightness and blur, the same for all frames."""
    gain, shift, weight = jax.random.uniform(key, (3,), minval=-1.0)
    weight = self.blur * jnp.abs(weight)
    for _ in range(2):
      around = jnp.pad(clip, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
      mean = jax.lax.reduce_window(
        around, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "VALID"
      )
      clip = (1 - weight) * clip + weight * mean / 9
    return (1 + self.brightness * gain) * clip + self.brightness * shift


def build(config: Mapping[str, Any]) -> PositionRegressor:
  """Builds the system of a config with `config.system = 'position_regressor'`.

  Raises:
    UserError: a field's value is invalid.
  """
  model = dict(config["model"])
  own = {name: sections.take(model, name, "config.model") for name in _OWN}
  grid = position_regressor.Grid(tuple(own.pop("bounds")), own.pop("cells"))
  if own["extra_width"] < 2:
    raise UserError(
      f"config.model.extra_width: expected >= 2 (x and y), found {own['extra_width']}"
    )
  network = sections.read(
    position_regressor.PositionSettings,
    model,
    "config.model",
    dtype=sections.dtype(config),
  )
  height, width, channels = config["data"]["frame_shape"]
  return PositionRegressor(
    network=position_regressor.PositionNetwork(network, grid.cells**2),
    grid=grid,
    task=tasks.build(config["task"]),
    frame_shape=(height, width, channels),
    **own,
  )
