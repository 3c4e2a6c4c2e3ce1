"""VDM's tasks: whole clips, with or without independent images."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.tasks.task import Selection, Task


@dataclasses.dataclass(frozen=True)
class Unconditional(Task):
  """A random clip, all of whose frames are latent.

  Attributes:
    num_frames: frames T of a clip.
    stride: distance between neighbouring frames, in source frames ("frameskip").
    flip: whether to mirror half of the clips left-right.
  """

  num_frames: int
  stride: int = 1
  flip: bool = False

  def __post_init__(self):
    if self.num_frames < 1:
      raise UserError(f"config.task.num_frames: expected >= 1, found {self.num_frames}")
    if self.stride < 1:
      raise UserError(f"config.task.stride: expected >= 1, found {self.stride}")

  @property
  def min_length(self) -> int:
    return (self.num_frames - 1) * self.stride + 1

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    # + 1 makes the last start, lengths[0] - min_length, as likely as the others.
    start = rng.integers(lengths[0] - self.min_length + 1)
    index = start + self.stride * np.arange(self.num_frames)
    zeros = np.zeros(self.num_frames, np.int32)
    return Selection(
      index=index.astype(np.int32),
      observed=zeros.astype(bool),
      latent=~zeros.astype(bool),
      group=zeros,
      source=zeros,
      flip=bool(self.flip and rng.random() < 0.5),
    )


@dataclasses.dataclass(frozen=True)
class JointImages(Task):
  """A random clip followed by independent images (VDM, section 3).

  Each image is one random frame of another video of the data set, forms a group of its
  own and has its own label or caption.

  Attributes:
    clip: how the clip is drawn; its flip holds for the images too.
    num_images: number k of independent images appended; T = clip.num_frames + k.
  """

  clip: Unconditional
  num_images: int

  def __post_init__(self):
    if self.num_images < 0:
      raise UserError(f"config.task.num_images: expected >= 0, found {self.num_images}")

  @property
  def num_frames(self) -> int:
    return self.clip.num_frames + self.num_images

  @property
  def window(self) -> int:
    return self.clip.num_frames

  @property
  def stride(self) -> int:
    return self.clip.stride

  @property
  def num_sources(self) -> int:
    return 1 + self.num_images

  @property
  def min_length(self) -> int:
    return self.clip.min_length

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    clip = self.clip.sample(rng, lengths)
    images = np.array([rng.integers(n) for n in lengths[1:]], np.int32)
    source = np.arange(1, self.num_images + 1, dtype=np.int32)
    none = np.zeros(self.num_images, bool)
    return Selection(
      index=np.concatenate([clip.index, images]),
      observed=np.concatenate([clip.observed, none]),
      latent=np.concatenate([clip.latent, ~none]),
      group=np.concatenate([clip.group, source]),
      source=np.concatenate([clip.source, source]),
      flip=clip.flip,
    )


def joint_images(
  num_frames: int, num_images: int, stride: int = 1, flip: bool = False
) -> JointImages:
  """Makes `JointImages` from the flat fields of a config."""
  return JointImages(Unconditional(num_frames, stride, flip), num_images)
