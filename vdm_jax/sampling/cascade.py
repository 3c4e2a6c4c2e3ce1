"""A cascade of models, each of which makes the videos of the last longer or larger.

As in VDM, section 3.1, a model at frameskip 4 makes a video and one at frameskip 1 adds
the frames in between. A model of larger frames makes a video that, averaged to the
smaller size, is the smaller video; it also becomes longer if its frameskip is smaller.
Each stage is conditioned by guidance only, so that any unconditional model can serve.
"""

from typing import Any

import numpy as np

from vdm_jax import pixels
from vdm_jax.errors import UserError
from vdm_jax.sampling.model import Model
from vdm_jax.systems.system import DiffusionSystem

_SEEDS = 7919  # Distance between the seeds of stages: equal noise would correlate them.


def factors(below: DiffusionSystem, above: DiffusionSystem) -> tuple[int, int]:
  """Finds the factors of length and of frame size between two models of a cascade.

  Raises:
    UserError: frame rates or sizes are not divisible, or nothing becomes larger.
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
  """Counts the frames that a model makes out of `frames`.

  Raises:
    UserError: the models do not chain, or the frames are fewer than a window.
  """
  if model.system.windows.recurrent:
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
  """Samples a longer or larger version of each video.

  The videos are given frames if the model's frames have the same size; otherwise they
  guide sampling as a low-resolution version of its videos.

  Args:
    model: model of this stage.
    below: system that made the videos.
    videos: float32 [N, T, h, w, C] in [-1, 1].
    stage: number of this stage, from 1 on.
    **options: arguments of `Model.sample`; `seed` is that of the whole cascade.

  Returns:
    float32 [N, T s, H, W, C], where s is the ratio of the frameskips. The paper's 16
    frames, for instance, become 64, of which the last three follow the last given one.

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
