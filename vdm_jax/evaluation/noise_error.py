"""The metric of optimized plans: how well a model predicts noise, given frames.

It is the squared error of the noise that the model predicts in the latent frames of
training videos, summed over those frames and averaged over noise levels that are spread
evenly from the noisiest down (the authors of FDM call this "linspace-t").
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import sharding
from vdm_jax.data.source import VideoSource
from vdm_jax.diffusion import process
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.pixels import to_float
from vdm_jax.plans import plan as plan_lib
from vdm_jax.systems import SamplingSystem

# Takes the place of the number of steps for a schedule in continuous time.
_STEPS = 1000


class NoiseError:
  """A metric for `plans.optimized.search`.

  Sets of equal size at the same stage are judged by the same videos, levels and noise.
  """

  def __init__(
    self,
    system: SamplingSystem,
    params,
    source: VideoSource,
    *,
    length: int,
    num_videos: int = 100,
    num_levels: int = 10,
    batch_size: int = 10,
    seed: int = 0,
  ):
    """Sets up the metric.

    Args:
      system: system of the model.
      params: parameters of its network.
      source: training videos.
      length: frames of the videos to be sampled.
      num_videos: number of videos, drawn anew for every stage and size of the observed
        set; a multiple of `num_levels`.
      num_levels: number of noise levels; video j has level j modulo this.
      batch_size: videos at a time; raised to a multiple of the devices.
      seed: seed of videos and noise.

    Raises:
      UserError: the numbers do not fit each other or the data.
    """
    if num_levels < 1 or num_videos < 1 or num_videos % num_levels:
      raise UserError(
        f"`num_videos={num_videos}`: expected a multiple of `num_levels={num_levels}`"
      )
    needed = (length - 1) * system.stride + 1
    self._eligible = np.flatnonzero(source.lengths >= needed)
    if len(self._eligible) < num_videos:
      raise UserError(
        f"{source.full_name} {source.split}: expected {num_videos} videos of {needed} "
        f"frames or more, found {len(self._eligible)}"
      )
    self._system, self._params, self._source = system, params, source
    self._num_videos, self._seed = num_videos, seed
    self._mesh = sharding.make_mesh()
    self._batch_size = -(-min(batch_size, num_videos) // self._mesh.size)
    self._batch_size *= self._mesh.size
    steps = getattr(system.schedule, "num_steps", _STEPS)
    first = np.linspace(0, steps, num_levels, endpoint=False).astype(int)
    # Times in the middle of steps, so that a discrete schedule floors to those steps.
    self._times = (steps - 1 - first + 0.5) / steps
    rows, whole = sharding.batch(self._mesh), sharding.replicated(self._mesh)
    self._program = sharding.jit(
      functools.partial(_errors, system),
      self._mesh,
      in_shardings=(whole, rows, rows, rows, rows, rows),
      out_shardings=whole,
    )

  def __call__(
    self, stage: int, observed: Sequence[int], latent: Sequence[int]
  ) -> float:
    """Computes the error of the frames `latent` given the frames `observed`."""
    rng = np.random.default_rng([self._seed, stage, len(observed)])
    videos = rng.choice(self._eligible, self._num_videos, replace=False)
    key = jax.random.fold_in(jax.random.key(self._seed), stage)
    keys = jax.random.split(jax.random.fold_in(key, len(observed)), self._num_videos)
    row = plan_lib.stage([observed], latent)
    row = row.replace(index=row.index * self._system.stride)
    total = 0.0
    for start in range(0, self._num_videos, self._batch_size):
      numbers = np.arange(start, start + self._batch_size)
      rows = np.minimum(numbers, self._num_videos - 1)  # Repeats fill the last batch.
      found = self._errors(videos[rows], rows, row, keys[rows])
      total += found[numbers < self._num_videos].sum()
    return float(total) / self._num_videos

  def _errors(self, videos, rows, row: Frames, keys) -> np.ndarray:
    clips = self._source.read_many([(int(video), row.index[0]) for video in videos])
    wide = jax.tree.map(
      lambda leaf: np.broadcast_to(leaf, (len(videos), *leaf.shape[1:])), row
    )
    # Without captions, even for a model that takes them.
    shapes = self._system.cond.shapes(len(videos), 1)
    cond = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if "label" in cond:
      cond["label"] = self._source.labels[videos][:, None]
    times = self._times[rows % len(self._times)].astype(np.float32)
    pixels = np.stack([clip["frames"] for clip in clips])
    return np.asarray(self._program(self._params, pixels, wide, cond, times, keys))


def _errors(system: SamplingSystem, params, pixels, frames, cond, times, keys):
  """Computes the squared error of the noise, summed over latent frames, [B]."""
  video = to_float(pixels)
  eps = jax.vmap(lambda key: jax.random.normal(key, video.shape[1:]))(keys)
  noise = system.noise(times, eps)
  scored = system.score(params, video, frames, cond, noise)
  x = process.from_output(
    system.objective.predict, scored.output, scored.z, noise.level
  ).x
  error = (process.from_x("eps", x, scored.z, noise.level) - eps) ** 2
  return jnp.sum(jnp.where(frames.latent, error.mean(axis=(2, 3, 4)), 0.0), axis=1)
