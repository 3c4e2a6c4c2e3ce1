"""A trained model that samples: load a workdir, call `sample`, get an array."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from vdm_jax import plans, sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import window
from vdm_jax.sampling.settings import Settings
from vdm_jax.storage import workdirs
from vdm_jax.systems.system import DiffusionSystem


class Model:
  """A system with weights, ready to sample on every device of this process.

  Attributes:
    system: the paper it belongs to.
    params: its (averaged) weights.
    info: config, checkpoint step and origin.
  """

  def __init__(self, system: DiffusionSystem, params: Any, info: Mapping[str, Any]):
    self.system = system
    self.info = info
    self._mesh = sharding.make_mesh()
    self.set_params(params)
    self._compiled: dict[Any, Callable[..., jax.Array]] = {}

  def set_params(self, params: Any) -> None:
    """Puts other weights in place; compiled programs stay."""
    self.params = jax.device_put(params, sharding.replicated(self._mesh))

  def sample(
    self,
    num_videos: int,
    *,
    seed: int = 0,
    length: int | None = None,
    label: int | Sequence[int] | None = None,
    tokens: tuple[np.ndarray, np.ndarray] | None = None,
    given: np.ndarray | None = None,
    given_frames: Sequence[int] = (),
    plan: str = "blocks",
    plan_options: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    progress: bool = False,
    **settings: Any,
  ) -> np.ndarray:
    """Samples videos.

    A video depends on the seed and its number alone, not on the batch size or on
    how many devices share the work.

    Args:
      num_videos: N.
      seed: of the noise.
      length: frames of each video; default the model's window.
      label: class of all videos or of each [N]; None: unconditional.
      tokens: embedded caption of all videos: ([L, D], mask [L]).
      given: float32 in [-1, 1], [T0, H, W, C] or one per video [N, T0, H, W, C]:
        frames to start from.
      given_frames: where in the video the given frames are; default 0 .. T0 - 1.
      plan: name of the sampling plan.
      plan_options: of the plan.
      batch_size: videos at a time; raised to a multiple of the devices.
      progress: show a progress bar.
      **settings: fields of `Settings` that replace those of the config.

    Returns:
      float32 [N, T, H, W, C] in [-1, 1], the given frames in place.

    Raises:
      UserError: an argument does not fit the model.
    """
    settings = Settings.from_config(self.info["config"]["sampling"], **settings)
    length = length or self.system.window
    given, given_frames = self._check_given(given, given_frames, num_videos)
    schedule = plans.build(
      plan,
      length=length,
      given=tuple(given_frames),
      window=self.system.window,
      **(plan_options or {}),
    )
    stages = list(plans.stages(schedule))
    cond = self._cond(num_videos, label, tokens, settings)
    if num_videos < 1:
      raise UserError(f"num_videos: expected >= 1, found {num_videos}")
    devices = self._mesh.size
    batch_size = -(-min(batch_size, num_videos) // devices) * devices
    videos = np.zeros((num_videos, length, *self.system.frame_shape), np.float32)
    if given is not None:
      videos[:, given_frames] = given

    starts = range(0, num_videos, batch_size)
    bar = tqdm.tqdm(
      total=len(starts) * len(stages),
      desc="sample",
      unit="window",
      disable=not progress,
      dynamic_ncols=True,
    )
    with bar:
      for start in starts:
        # The last batch is filled up with more videos that are thrown away: one
        # compiled shape serves all.
        numbers = np.arange(start, start + batch_size)
        rows = np.minimum(numbers, num_videos - 1)
        video = videos[rows]
        for stage, frames in enumerate(stages):
          slots = np.asarray(frames.index)[0]
          video[:, slots] = self._window(
            settings, video[:, slots], frames, _rows(cond, rows), seed, numbers, stage
          )
          bar.update()
        videos[start : start + batch_size] = video[: num_videos - start]
    return videos

  def _window(self, settings, video, frames, cond, seed, numbers, stage):
    size, any_observed = len(video), bool(np.any(frames.observed))
    place = functools.partial(jax.device_put, device=sharding.batch(self._mesh))
    wide = jax.tree.map(
      lambda row: np.broadcast_to(row, (size, *row.shape[1:])), frames
    )
    wide = wide.replace(index=wide.index * self.system.stride)
    keys = _keys(seed, jnp.asarray(numbers), stage)
    program = self._program(settings, any_observed)
    return np.asarray(
      program(self.params, place(video), place(wide), place(cond), place(keys))
    )

  def _program(self, settings, any_observed):
    """The jitted window sampler; jit keeps one program per shape."""
    key = (settings, any_observed)
    if key not in self._compiled:
      rows, whole = sharding.batch(self._mesh), sharding.replicated(self._mesh)
      self._compiled[key] = jax.jit(
        functools.partial(
          window.sample_window, self.system, settings, any_observed=any_observed
        ),
        in_shardings=(whole, rows, rows, rows, rows),
        out_shardings=rows,
      )
    return self._compiled[key]

  def _check_given(self, given, given_frames, num_videos):
    if given is None:
      if len(given_frames):
        raise UserError("given_frames: there is no given clip to take them from")
      return None, ()
    given = np.asarray(given, np.float32)
    if given.ndim == 4:
      given = np.broadcast_to(given, (num_videos, *given.shape))
    if given.shape[0] != num_videos or given.shape[2:] != self.system.frame_shape:
      raise UserError(
        f"given: expected [T, {', '.join(map(str, self.system.frame_shape))}] or "
        f"{num_videos} of them, found {given.shape}"
      )
    if not len(given_frames):
      given_frames = range(given.shape[1])
    if len(given_frames) != given.shape[1]:
      raise UserError(
        f"given_frames: {len(given_frames)} places for {given.shape[1]} given frames"
      )
    return given, list(given_frames)

  def _cond(self, num_videos, label, tokens, settings):
    spec = self.system.cond
    cond = jax.tree.map(
      lambda leaf: np.zeros(leaf.shape, leaf.dtype), spec.shapes(num_videos, 1)
    )
    if "label" in cond:
      cond["label"] -= 1
    if label is not None:
      if not spec.num_labels:
        raise UserError("label: this model was trained without labels")
      labels = np.broadcast_to(np.asarray(label, np.int32), num_videos)
      for value in labels:
        if not -1 <= value < spec.num_labels:
          raise UserError(
            f"label {value}: this model knows 0 to {spec.num_labels - 1} (-1: none)"
          )
      cond["label"][:, 0] = labels
    if tokens is not None:
      if not spec.token_dim:
        raise UserError("caption: this model was trained without text")
      cond["tokens"][:, 0], cond["token_mask"][:, 0] = tokens
    if settings.guidance and label is None and tokens is None:
      raise UserError("guidance: needs a label or a caption to guide towards")
    return cond


def load(workdir: str, *, rate: str | None = None, **pick: Any) -> Model:
  """The model of a workdir or export.

  Args:
    workdir: local folder or gs:// path.
    rate: which average of the weights; default the config's first.
    **pick: `step=` one checkpoint, `best=True` that of the best validation loss.

  Raises:
    UserError: there is no such checkpoint, or it cannot be read.
  """
  params, info = workdirs.read_weights(workdir, rate, **pick)
  return Model(systems.build(info["config"]), params, {**info, "workdir": str(workdir)})


@jax.jit
def _keys(seed, numbers, stage):
  """One key per video and stage."""

  def one(number):
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), number), stage)

  return jax.vmap(one)(numbers)


def _rows(cond, rows):
  return jax.tree.map(lambda leaf: leaf[rows], cond)
