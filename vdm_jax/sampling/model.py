"""A trained model that samples: load a workdir, call `sample`, get an array."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from etils import epath

from vdm_jax import plans, processes, sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import inputs, rollout_scan, window
from vdm_jax.sampling.sampled_batch import SampledBatch
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.sampling.unfinished import Unfinished
from vdm_jax.storage import workdirs
from vdm_jax.systems.system import DiffusionSystem


class Model:
  """A system with weights, ready to sample on every device of this process.

  Several processes share the videos of a call among them, a batch each in turn; each
  has all weights, split over its own devices as `config.mesh.fsdp` says.

  Attributes:
    system: the paper it belongs to.
    params: its (averaged) weights.
    info: config, checkpoint step and origin.
  """

  def __init__(self, system: DiffusionSystem, params: Any, info: Mapping[str, Any]):
    self.system = system
    self.info = info
    self._mesh = sharding.for_sampling(info["config"], jax.local_devices())
    self.set_params(params)
    self._compiled: dict[Any, Callable[..., jax.Array]] = {}

  def set_params(self, params: Any) -> None:
    """Puts other weights in place, or none (None); compiled programs stay."""
    rules = sharding.rules_of(self.info["config"])
    self._placed = sharding.state(self._mesh, params, rules)
    self.params = jax.device_put(processes.whole(params), self._placed)

  def sample(
    self,
    num_videos: int,
    *,
    seed: int = 0,
    draws: Sequence[tuple[int, int]] | None = None,
    length: int | None = None,
    label: int | Sequence[int] | None = None,
    tokens: tuple[np.ndarray, np.ndarray] | None = None,
    against: tuple[np.ndarray, np.ndarray] | None = None,
    given: np.ndarray | None = None,
    given_frames: Sequence[int] = (),
    low_res: np.ndarray | None = None,
    low_res_frames: Sequence[int] = (),
    plan: str | None = None,
    plan_options: Mapping[str, Any] | None = None,
    batch_size: int = 16,
    whole: bool = False,
    progress: bool = False,
    unfinished: epath.PathLike | None = None,
    **settings: Any,
  ) -> np.ndarray:
    """Samples videos.

    A video depends on the seed and its number alone, not on the batch size or on
    how many devices share the work.

    Args:
      num_videos: N.
      seed: of the noise.
      draws: seed and number of each video [N], which are then those of as many jobs;
        default (seed, 0) to (seed, N - 1).
      length: frames of each video; default the model's window.
      label: class of all videos or of each [N]; None: unconditional.
      tokens: embedded caption of all videos, ([L, D], mask [L]), or of each,
        ([N, L, D], mask [N, L]).
      against: of a negative caption, which guidance moves away from instead of from
        no caption.
      given: float32 in [-1, 1], [T0, H, W, C] or one per video [N, T0, H, W, C]:
        frames to start from.
      given_frames: where in the video the given frames are; default 0 .. T0 - 1.
      low_res: float32 in [-1, 1], [T1, h, w, C] or one per video: a low-resolution
        video that guides the sampled one, which becomes it when it is averaged to its
        size (VDM, section 3.1).
      low_res_frames: where in the video its frames are; default 0 .. T1 - 1.
      plan: name of the sampling plan; default the system's.
      plan_options: of the plan, over those of the config.
      batch_size: videos at a time; raised to a multiple of the devices.
      whole: compile a roll-out as one program for all of its frames. The same
        videos; progress, and a stop, between batches alone.
      progress: show a progress bar.
      unfinished: folder for what is done of a long job. If the same call was stopped
        there, it resumes after its last finished stage and ends with the same
        videos. Gone when the job is done. Several processes have one, on a disk that
        all of them see.
      **settings: fields of `SamplerSettings` that replace the config's. Its guidance
        is not used without a label or a caption.

    Returns:
      float32 [N, T, H, W, C] in [-1, 1], the given frames in place.

    Raises:
      UserError: an argument does not fit the model.
    """
    settings = self.settings(label is not None or tokens is not None, **settings)
    length = length or self.system.window
    given, given_frames = inputs.given_frames(
      self.system, given, given_frames, num_videos
    )
    low_res = inputs.low_res(self.system, low_res, low_res_frames, num_videos, length)
    plan, plan_options = self._plan(plan, plan_options)
    make_plan = functools.partial(
      plans.build,
      plan,
      length=length,
      given=tuple(given_frames),
      window=self.system.window,
      **plan_options,
    )
    recurrent = self.system.windows.recurrent
    if whole and not recurrent:
      raise UserError(
        f"whole: is for roll-outs; a {self.info['config']['system']!r} model samples "
        "window by window"
      )
    if recurrent and not settings.restore_given:
      raise UserError(
        "restore_given: a roll-out only reads given frames, nothing comes out for them"
      )
    num_stages = self._check_plan(make_plan(), whole)
    cond = inputs.cond(
      self.system, num_videos, label, tokens, settings.guidance, against
    )
    if num_videos < 1:
      raise UserError(f"num_videos: expected >= 1, found {num_videos}")
    devices = self._mesh.size
    batch_size = min(batch_size, -(-num_videos // jax.process_count()))
    batch_size = -(-batch_size // devices) * devices
    videos = np.zeros((num_videos, length, *self.system.frame_shape), np.float32)
    if given is not None:
      videos[:, given_frames] = given
    store = None
    if unfinished is not None:
      store = Unfinished(
        unfinished,
        {
          "model": {k: self.info.get(k) for k in ("config", "step", "ema", "workdir")},
          "num_videos": num_videos,
          "batch_size": batch_size,
          "seed": seed if draws is None else [list(draw) for draw in draws],
          "length": length,
          "plan": plan,
          "plan_options": plan_options,
          "whole": whole,
          "settings": dataclasses.asdict(settings),
          "given_frames": list(given_frames),
          "inputs": _digest((videos, cond, low_res)),
        },
      )

    starts = range(0, num_videos, batch_size)
    mine, made = processes.share(list(enumerate(starts))), []
    bar = tqdm.tqdm(
      total=len(mine) * num_stages,
      desc="sample",
      unit="window",
      disable=not (progress and processes.is_first()),
      dynamic_ncols=True,
    )
    with bar:
      for batch, start in mine:
        # The last batch is filled up with more videos that are thrown away: one
        # compiled shape serves all.
        numbers = np.arange(start, start + batch_size)
        rows, seeds = np.minimum(numbers, num_videos - 1), seed
        if draws is not None:
          seeds, numbers = np.asarray(draws, np.int32)[rows].T
        signals, small = _rows((cond, low_res), rows)
        sampled = SampledBatch(
          self, settings, make_plan(), seeds, numbers, signals, small
        )
        run = sampled.run_whole if whole else sampled.run
        made.append(run(videos[rows], batch, store, bar))
    empty = np.zeros((batch_size, *videos.shape[1:]), np.float32)
    made = processes.collect(made, len(starts), empty)
    for start, video in zip(starts, made, strict=True):
      videos[start : start + batch_size] = video[: num_videos - start]
    if store is not None and processes.is_first():
      store.remove()
    return videos

  def settings(self, signals: bool, **overrides: Any) -> SamplerSettings:
    """What `sample` samples with: the config's settings under some others.

    Args:
      signals: whether there is a label or a caption; without one the config's guidance
        has nothing to guide towards, and is 0.
      **overrides: as of `sample`.

    Raises:
      UserError: a field is unknown or has a value it cannot have.
    """
    if not signals and overrides.get("guidance") is None:
      overrides["guidance"] = 0.0
    return SamplerSettings.from_config(self.info["config"]["sampling"], **overrides)

  def _plan(self, name, options):
    """Name and options of the plan: the system's, unless the caller says other."""
    defaults = self.system.plan_options if name in (None, self.system.plan) else {}
    options = {k: v for k, v in (options or {}).items() if v is not None}
    return name or self.system.plan, {**defaults, **options}

  def _check_plan(self, plan, whole) -> int:
    """Checks all stages before the first is sampled; returns how many there are."""
    before, count = None, 0
    for frames in plans.stages(plan):
      self.system.windows.check(frames, before)
      if whole and before is not None and frames.index.shape[1] != 2:
        raise UserError(
          "whole: after its first stage, a roll-out reads one frame at a time; a stage "
          f"holds frames {frames.index[0].tolist()}"
        )
      before, count = frames, count + 1
    return count

  def window(self, settings, video, frames, cond, keys, state=None, low_res=None):
    """One window: arrays of a batch in, see `window.sample_window`."""
    program = self._program(settings, bool(np.any(frames.observed)))
    rows = (video, frames, cond, keys, state, low_res)
    return program(self.params, *jax.device_put(rows, sharding.batch(self._mesh)))

  def rollout(self, settings, given, cond, keys):
    """A roll-out as one program, see `rollout_scan.sample_rollout`."""
    key = (settings, "rollout")
    if key not in self._compiled:
      rows = sharding.batch(self._mesh)
      self._compiled[key] = sharding.jit(
        functools.partial(rollout_scan.sample_rollout, self.system, settings),
        self._mesh,
        in_shardings=(self._placed, rows, rows, rows),
        out_shardings=rows,
      )
    inputs_of = jax.device_put((given, cond, keys), sharding.batch(self._mesh))
    return self._compiled[key](self.params, *inputs_of)

  def _program(self, settings, any_observed):
    """The jitted window sampler; jit keeps one program per shape."""
    key = (settings, any_observed)
    if key not in self._compiled:
      rows = sharding.batch(self._mesh)
      self._compiled[key] = sharding.jit(
        functools.partial(
          window.sample_window, self.system, settings, any_observed=any_observed
        ),
        self._mesh,
        in_shardings=(self._placed, rows, rows, rows, rows, rows, rows),
        out_shardings=rows,
        donate_argnames="state",
      )
    return self._compiled[key]


def load(workdir: str, *, rate: str | None = None, **pick: Any) -> Model:
  """Loads the model of a workdir or export.

  Where `config.system` names a function of the user's, its code is imported and run:
  load only what you trust.

  Args:
    workdir: a folder, or a file that ends with .safetensors; local or gs://.
    rate: which average of the weights; default the config's first.
    **pick: `step=` one checkpoint, `best=True` that of the best validation loss.

  Raises:
    UserError: there is no such checkpoint, or it cannot be read.
  """
  params, info = workdirs.read_weights(workdir, rate, **pick)
  return Model(systems.build(info["config"]), params, {**info, "workdir": str(workdir)})


def _digest(arrays) -> str:
  """A hash of arrays on the host."""
  total = hashlib.sha256()
  for leaf in jax.tree.leaves(arrays):
    total.update(np.ascontiguousarray(leaf).tobytes())
  return total.hexdigest()[:16]


def _rows(cond, rows):
  return jax.tree.map(lambda leaf: leaf[rows], cond)
