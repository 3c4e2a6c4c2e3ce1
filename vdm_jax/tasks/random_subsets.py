"""FDM's task: any frames of a long video given any others (section 4).

Groups of evenly spaced frames are drawn one after another, each given or to be sampled
by a coin toss, until one no longer fits into the window.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from vdm_jax import errors
from vdm_jax.errors import UserError
from vdm_jax.tasks.task import Selection, Task

PADDINGS = ("random", "first")


@dataclasses.dataclass(frozen=True)
class RandomSubsets(Task):
  """A random subset of a clip's frames, some of them observed, padded to one size.

  Slots hold the selected frames in increasing order, then padding. Most windows observe
  nothing (71% at 20 of 300 frames), as in the authors' distribution. All frames are in
  group 0, even padding: it and real frames never attend to each other, but FDM's group
  norm runs over all slots, so padding must look like video.

  Attributes:
    max_frames: slots N of a window. At least one frame is latent.
    clip_length: frames T of the clip that a window spans, at a random place in its
      video; None spans the whole video. It must exceed N: a window is full when a group
      does not fit, and every group fits into a clip of N frames.
    padding: content of padding. 'random' (the authors') takes frames of a second video,
      uniformly and independently, 'first' takes frame 0 of the clip.
    reference_padding_roles: whether to give a padding slot the role that the frame of
      its number has in the first video, as the authors' code does by mistake (3% of the
      padding slots at 20 of 300 frames). For comparisons only.
  """

  max_frames: int
  clip_length: int | None = None
  padding: str = "random"
  reference_padding_roles: bool = False

  def __post_init__(self):
    if self.max_frames < 1:
      raise UserError(f"config.task.max_frames: expected >= 1, found {self.max_frames}")
    if self.clip_length is not None and self.clip_length <= self.max_frames:
      raise UserError(
        f"config.task.clip_length: expected more than max_frames={self.max_frames}, "
        f"found {self.clip_length}"
      )
    if self.padding not in PADDINGS:
      raise errors.unknown("config.task.padding", self.padding, PADDINGS)

  @property
  def num_frames(self) -> int:
    return self.max_frames

  @property
  def num_sources(self) -> int:
    return 2 if self.padding == "random" else 1

  @property
  def min_length(self) -> int:
    return self.clip_length or self.max_frames + 1

  def sample(self, rng: np.random.Generator, lengths: Sequence[int]) -> Selection:
    """Draws one example, see `Task`.

    Raises:
      UserError: a video is shorter than `min_length`.
    """
    for length in lengths[: self.num_sources]:
      if length < self.min_length:
        raise UserError(
          f"task random_subsets: expected videos of {self.min_length} frames or more, "
          f"found {length}"
        )
    start, length = self._clip(rng, lengths[0])
    roles = draw_roles(rng, length, self.max_frames)
    other = self._clip(rng, lengths[1]) if self.padding == "random" else None
    selection = padded_window(rng, roles, self.max_frames, start, other)
    if self.reference_padding_roles:
      rest = slice(len(roles), self.max_frames)
      numbers = selection.index[rest] - (other[0] if other else start)
      selection.observed[rest] = [roles.get(n, False) for n in numbers.tolist()]
      selection.latent[rest] = [not roles.get(n, True) for n in numbers.tolist()]
    return selection

  def _clip(self, rng: np.random.Generator, length: int) -> tuple[int, int]:
    """Draws start and length of a clip of a video of `length` frames."""
    if self.clip_length is None:
      return 0, int(length)
    return int(rng.integers(length - self.clip_length + 1)), self.clip_length


def padded_window(
  rng: np.random.Generator,
  roles: Mapping[int, bool],
  size: int,
  start: int,
  other: tuple[int, int] | None,
) -> Selection:
  """Lays out a window: chosen frames in increasing order, then padding.

  Args:
    rng: source of randomness.
    roles: maps frames of a clip to whether each is observed (else latent).
    size: number of slots, at least that of the frames.
    start: start of the clip in its video.
    other: start and length of the clip of a second video whose frames, drawn
      uniformly, are the padding; None pads with frame 0 of the first clip.
  """
  frames, rest = sorted(roles), slice(len(roles), size)
  index = np.full(size, start, np.int32)
  index[: len(frames)] += np.array(frames, np.int32)
  observed = np.zeros(size, bool)
  observed[: len(frames)] = [roles[frame] for frame in frames]
  latent = ~observed
  latent[rest] = False
  source = np.zeros(size, np.int32)
  if other is not None:
    first, length = other
    index[rest] = first + rng.integers(length, size=size - len(frames), dtype=np.int32)
    source[rest] = 1
  return Selection(index, observed, latent, np.zeros_like(index), source)


def draw_group(rng: np.random.Generator, length: int, max_frames: int) -> list[int]:
  """Draws 1 to `max_frames` evenly spaced frames, increasing, of a clip of `length`.

  The spacing is log-uniform from 1 to the largest with which they fit.
  """
  while True:
    size, u, v = rng.random(3).tolist()
    size = 1 + int(size * max_frames)
    # 0.999 gives a single frame some spacing, too, and lets the last frame be reached.
    spacing = math.exp(u * math.log(length / (size - 0.999)))
    first = v * (length - spacing * (size - 1))
    group = [math.floor(first + i * spacing) for i in range(size)]
    if group[-1] < length:  # Rounding can carry it over the edge.
      return group


def draw_roles(
  rng: np.random.Generator, length: int, max_frames: int
) -> dict[int, bool]:
  """Draws the frames of a window and whether each is observed (else latent).

  Args:
    rng: source of randomness.
    length: frames to choose from, more than `max_frames`.
    max_frames: N; 1 to N frames are chosen, of which the first group is latent.
  """
  roles = dict.fromkeys(draw_group(rng, length, max_frames), False)
  while True:
    observed = rng.random() < 0.5
    group = draw_group(rng, length, max_frames)
    new = [frame for frame in group if frame not in roles]
    if len(roles) + len(new) > max_frames:
      return roles
    roles.update(dict.fromkeys(new, observed))
