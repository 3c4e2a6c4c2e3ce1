"""Frames: which source frames a window holds, and the role of each.

A window is T slots. Each slot holds one frame of some source video and is

- *observed*: given to the model clean;
- *latent*: to be sampled, or scored in training;
- both: teacher-forced (scored, and clean for the frames after it);
- neither: *padding*, present only to keep the shape static.

Frames of equal `group` may exchange information over time; frames of different
groups never do. A clip with k independent images (joint image-video training) has
k + 1 groups. Padding and real frames of one group do not exchange information either.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax.errors import UserError

Array = jax.Array | np.ndarray


@flax.struct.dataclass
class Frames:
  """Roles of the frames of a batch of windows; every field is [B, T].

  Attributes:
    index: int32, position of each frame in its source video.
    observed: bool, given to the model clean.
    latent: bool, to be sampled or scored.
    group: int32; temporal attention joins frames of equal group only.
  """

  index: Array
  observed: Array
  latent: Array
  group: Array

  @property
  def padding(self) -> Array:
    """Finds the slots that are neither observed nor latent: bool [B, T]."""
    return ~(self.observed | self.latent)

  def attends(self) -> Array:
    """Returns whether frame i (first) may attend to frame j (second): bool [B, T, T].

    Within a group, real frames attend to real frames and padding to padding, so that
    the content of padding never reaches a real frame.
    """
    same_group = self.group[:, :, None] == self.group[:, None, :]
    same_kind = self.padding[:, :, None] == self.padding[:, None, :]
    return same_group & same_kind

  def distances(self) -> Array:
    """Computes the index of frame i minus that of frame j: int32 [B, T, T]."""
    return self.index[:, :, None] - self.index[:, None, :]

  @property
  def shape(self) -> tuple[int, int]:
    return self.index.shape


def clip(batch: int, length: int, *, observed: Any = (), stride: int = 1) -> Frames:
  """Makes the frames of ordinary clips: one group, latent where not observed.

  Args:
    batch: number of windows B.
    length: number of frames T.
    observed: slots (0-based) that are given clean; negative slots count from
      the end.
    stride: distance between neighbouring frames, in source frames.

  Raises:
    UserError: an observed slot lies outside the clip or is named twice.
  """
  is_observed = np.zeros(length, bool)
  for slot in observed:
    if not -length <= slot < length:
      raise UserError(f"observed frame {slot}: expected 0 to {length - 1}")
    if is_observed[slot]:
      raise UserError(f"observed frame {slot} is named twice")
    is_observed[slot] = True

  def tile(row):
    return jnp.asarray(np.broadcast_to(row, (batch, length)))

  return Frames(
    index=tile(np.arange(length, dtype=np.int32) * stride),
    observed=tile(is_observed),
    latent=tile(~is_observed),
    group=tile(np.zeros(length, np.int32)),
  )


def spec(batch: int, length: int) -> Frames:
  """Gives the shapes and dtypes of a batch of windows, as `jax.ShapeDtypeStruct`s.

  Args:
    batch: number of windows B.
    length: number of frames T.
  """

  def rows(dtype):
    return jax.ShapeDtypeStruct((batch, length), dtype)

  return Frames(
    index=rows(jnp.int32),
    observed=rows(jnp.bool_),
    latent=rows(jnp.bool_),
    group=rows(jnp.int32),
  )
