"""A cascade: models that make the videos of the one before longer, or larger.

VDM's section 3.1: a model at frameskip 4 makes a video; one at frameskip 1 puts the
frames in between; one of larger frames makes a video that becomes the smaller one when
it is averaged to its size, longer and larger at once where it also has a smaller
frameskip. Each goes by guidance alone, so that it may be any unconditional model.
"""

from typing import Any

import numpy as np

from vdm_jax import pixels
from vdm_jax.errors import UserError
from vdm_jax.sampling.model import Model
from vdm_jax.systems.system import DiffusionSystem

_SEEDS = 7919  # Between the seeds of two stages: equal noise would correlate them.


def factors(below: DiffusionSystem, above: DiffusionSystem) -> tuple[int, int]:
  """Finds how many frames above there are for one below, and pixels along an edge.

  Raises:
    UserError: frame rates or sizes do not divide, or nothing becomes longer or larger.
  """
  if below.stride % above.stride:
    raise UserError(
      f"cascade: frameskip {below.stride}, then {above.stride}: expected one that "
      "divides the one before (config.task.stride)"
    )
  space = pixels.times(above.frame_shape, below.frame_shape)
  small, large = ("x".join(map(str, s.frame_shape)) for s in (below, above))
  if not space:
    raise UserError(
      f"cascade: frames of {small}, then {large}: expected the same channels, and "
      "height and width multiplied by one whole number"
    )
  if space == 1 and below.stride == above.stride:
    raise UserError(
      f"cascade: two models of {small} at frameskip {below.stride}: the second makes "
      "nothing longer or larger"
    )
  return below.stride // above.stride, space


def length(model: Model, below: DiffusionSystem, frames: int) -> int:
  """Counts the frames that a model makes of so many.

  Raises:
    UserError: the models do not chain, or they are fewer than a window.
  """
  if model.system.windows == "recurrent":
    raise UserError("cascade: a roll-out takes no frames between or below its own")
  found = frames * factors(below, model.system)[0]
  if found < model.system.window:
    raise UserError(
      f"cascade: {frames} frames become {found}, the next model's window has "
      f"{model.system.window}; sample more (`length`)"
    )
  return found


def enlarge(
  model: Model, below: DiffusionSystem, videos: np.ndarray, stage: int, **options: Any
) -> np.ndarray:
  """Samples a longer, or larger, version of each video.

  Where the model's frames have the same size, these are given; where they are larger,
  these guide them as their low-resolution version.

  Args:
    model: of this stage.
    below: system that made the videos.
    videos: float32 [N, T, h, w, C] in [-1, 1].
    stage: number of this stage, from 1 on.
    **options: of `Model.sample`; `seed` is that of the whole cascade.

  Returns:
    float32 [N, T s, H, W, C], s the ratio of the frameskips: as the paper's 16 frames
    become 64, of which the last three have no given frame after them.

  Raises:
    UserError: the models do not chain, or the videos are shorter than a window.
  """
  time, space = factors(below, model.system)
  frames = length(model, below, videos.shape[1])
  places = range(0, frames, time)
  known = {"given": videos, "given_frames": places}
  if space > 1:
    known = {"low_res": videos, "low_res_frames": places}
  seed = options.pop("seed", 0) + _SEEDS * stage
  return model.sample(len(videos), seed=seed, length=frames, **known, **options)
