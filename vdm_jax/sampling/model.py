"""Trained models: `load` a workdir, then call `sample` for an array of videos."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from etils import epath

from vdm_jax import plans, processes, seeds, sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import inputs, rollout_scan, window
from vdm_jax.sampling.sampled_batch import SampledBatch
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.sampling.stages import Stages
from vdm_jax.storage import workdirs
from vdm_jax.systems import SamplingSystem


class Model:
  """A system with weights, ready to sample on every device of this process.

  Several processes share the videos of a call, batch by batch; each holds all weights,
  split over its own devices as `config.mesh.fsdp` says.

  Attributes:
    system: the system, which is that of a paper.
    params: the (averaged) weights.
    info: config, checkpoint step and origin.
  """

  def __init__(self, system: SamplingSystem, params: Any, info: Mapping[str, Any]):
    self.system = system
    self.info = info
    self._mesh = sharding.for_sampling(info["config"], jax.local_devices())
    self.set_params(params)
    self._compiled: dict[Any, Callable[..., jax.Array]] = {}

  def set_params(self, params: Any) -> None:
    """Replaces the weights, or drops them (None), but keeps compiled programs."""
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
    negative_tokens: tuple[np.ndarray, np.ndarray] | None = None,
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

    A video depends only on the seed and its number, not on the batch size or on the
    number of devices that share the work.

    Args:
      num_videos: number of videos N.
      seed: seed of the noise, from 0 to 2**32 - 1.
      draws: seed and number of each video [N], as if they came from separate jobs;
        default (seed, 0) to (seed, N - 1).
      length: frames of each video; default the model's window.
      label: class of all videos, or of each [N]; None is unconditional.
      tokens: embedded caption of all videos, ([L, D], mask [L]), or of each,
        ([N, L, D], mask [N, L]).
      negative_tokens: embedded negative caption, which takes the place of no caption in
        guidance.
      given: float32 in [-1, 1], [T0, H, W, C] or one per video [N, T0, H, W, C]:
        frames to start from.
      given_frames: places of the given frames in the video; default 0 .. T0 - 1.
      low_res: float32 in [-1, 1], [T1, h, w, C] or one per video: a low-resolution
        video that guides the sampled one, whose average at that size it becomes (VDM,
        section 3.1).
      low_res_frames: places of its frames in the video; default 0 .. T1 - 1.
      plan: name of the sampling plan; default the system's.
      plan_options: options of the plan, which override those of the config.
      batch_size: videos at a time; raised to a multiple of the devices.
      whole: whether to compile a roll-out as one program for all of its frames. The
        videos are the same, but the job reports progress and can be stopped only
        between batches.
      progress: whether to show a progress bar.
      unfinished: folder for the finished stages of a long job. If the same call was
        stopped, it resumes after its last finished stage and ends with the same videos.
        The caller removes the folder when the videos are on disk. Several processes
        share one folder, on a disk that all of them see.
      **settings: fields of `SamplerSettings` that replace the config's. Its guidance
        is not used without a label or a caption.

    Returns:
      float32 [N, T, H, W, C] in [-1, 1], with the given frames in place.

    Raises:
      UserError: an argument does not fit the model.
    """
    for name, value in (("num_videos", num_videos), ("batch_size", batch_size)):
      if value < 1:
        raise UserError(f"`{name}={value}`: expected >= 1")
    for one in [seed] if draws is None else [first for first, _ in draws]:
      seeds.check(one)
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
        f"`whole`: is for roll-outs; a {self.info['config']['system']!r} model samples "
        "window by window"
      )
    if recurrent and not settings.restore_given:
      raise UserError(
        "`restore_given=False`: a roll-out only reads given frames, nothing comes out "
        "for them"
      )
    num_stages = self._check_plan(make_plan(), whole)
    cond = inputs.cond(
      self.system, num_videos, label, tokens, settings.guidance, negative_tokens
    )
    devices = self._mesh.size
    batch_size = min(batch_size, processes.largest_share(num_videos))
    batch_size = -(-batch_size // devices) * devices
    videos = np.zeros((num_videos, length, *self.system.frame_shape), np.float32)
    if given is not None:
      videos[:, given_frames] = given
    store = None
    if unfinished is not None:
      store = Stages(
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
          "inputs": digest((videos, cond, low_res)),
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
        # The last batch is filled up with videos that are then discarded, so that one
        # compiled shape serves all batches.
        numbers = np.arange(start, start + batch_size)
        rows, seed_of = np.minimum(numbers, num_videos - 1), seed
        if draws is not None:
          seed_of, numbers = np.asarray(draws, np.int64)[rows].T
        signals, small = _rows((cond, low_res), rows)
        sampled = SampledBatch(
          self, settings, make_plan(), seed_of, numbers, signals, small
        )
        run = sampled.run_whole if whole else sampled.run
        made.append(run(videos[rows], batch, store, bar))
    empty = np.zeros((batch_size, *videos.shape[1:]), np.float32)
    made = processes.collect(made, len(starts), empty)
    for start, video in zip(starts, made, strict=True):
      videos[start : start + batch_size] = video[: num_videos - start]
    return videos

  def settings(self, signals: bool, **overrides: Any) -> SamplerSettings:
    """Returns the settings of `sample`: those of the config, with overrides.

    Args:
      signals: whether there is a label or a caption; without one the config's guidance
        has nothing to guide towards and is 0.
      **overrides: as the settings of `sample`.

    Raises:
      UserError: a field is unknown, its value is invalid, or the model's schedule has
        no such steps.
    """
    if not signals and overrides.get("guidance") is None:
      overrides["guidance"] = 0.0
    config = self.info["config"]["sampling"]
    settings = SamplerSettings.from_config(config, **overrides)
    settings.grid(self.system.schedule)
    return settings

  def check_plan(self, length: int, given_frames: Sequence[int]) -> None:
    """Checks that the system's plan makes videos of a length out of given frames.

    Args:
      length: frames of each video.
      given_frames: places of the given frames.

    Raises:
      UserError: the plan cannot, or the model cannot take one of its stages.
    """
    name, options = self._plan(None, None)
    plan = plans.build(
      name,
      length=length,
      given=tuple(given_frames),
      window=self.system.window,
      **options,
    )
    self._check_plan(plan, whole=False)

  def _plan(self, name, options):
    """Returns name and options of the plan, by default the system's."""
    defaults = self.system.plan_options if name in (None, self.system.plan) else {}
    options = {k: v for k, v in (options or {}).items() if v is not None}
    return name or self.system.plan, {**defaults, **options}

  def _check_plan(self, plan, whole) -> int:
    """Checks all stages before the first one is sampled, and counts them."""
    before, count = None, 0
    for frames in plans.stages(plan):
      self.system.windows.check(frames, before)
      if whole and before is not None and frames.index.shape[1] != 2:
        raise UserError(
          "`whole`: after its first stage, a roll-out reads one frame at a time; a "
          f"stage holds frames {frames.index[0].tolist()}"
        )
      before, count = frames, count + 1
    return count

  def window(self, settings, video, frames, cond, keys, state=None, low_res=None):
    """Samples one window of a batch, see `window.sample_window`."""
    program = self._program(settings, bool(np.any(frames.observed)))
    rows = (video, frames, cond, keys, state, low_res)
    return program(self.params, *jax.device_put(rows, sharding.batch(self._mesh)))

  def rollout(self, settings, given, cond, keys):
    """Samples a roll-out as one program, see `rollout_scan.sample_rollout`."""
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
    """Makes the jitted window sampler; jit keeps one program per shape."""
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


def load(
  workdir: str, *, ema: str | None = None, step: int | None = None, best: bool = False
) -> Model:
  """Loads the model of a workdir or export.

  If `config.system` names a function of the user's, its code is imported and executed,
  so load only what you trust.

  Args:
    workdir: a folder, or a file that ends with .safetensors; local or gs://.
    ema: rate of the average of the weights to take; default the config's first.
    step: of the checkpoint; default the newest.
    best: take the best checkpoint, by `train.best_by`; then there is no `step`.

  Raises:
    UserError: there is no such checkpoint, both `step` and `best` are given, it cannot
      be read, or its system does not sample.
  """

  def place(shapes, config):
    mesh = sharding.for_sampling(config, jax.local_devices())
    return sharding.state(mesh, shapes, sharding.rules_of(config))

  params, info = workdirs.read_weights(
    workdir, ema=ema, step=step, best=best, place=place
  )
  system = systems.build(info["config"])
  if not system.can_sample:
    raise UserError(
      f"{workdir}: expected a model that samples videos, found one of the system "
      f"{info['config']['system']!r}, which does not"
    )
  return Model(system, params, {**info, "workdir": str(workdir)})


def check_same(models: Sequence[Model]) -> None:
  """Checks that all processes have loaded the same checkpoints.

  The newest one of a run that still trains may be another one for whoever comes later.

  Raises:
    UserError: they have not; raised in every process.
  """
  processes.agree(
    {
      f"the checkpoint of {model.info['workdir']}": [
        model.info[key] for key in ("step", "ema", "config")
      ]
      for model in models
    }
  )


def digest(arrays) -> str:
  """Computes a hash of arrays on the host."""
  total = hashlib.sha256()
  for leaf in jax.tree.leaves(arrays):
    total.update(np.ascontiguousarray(leaf).tobytes())
  return total.hexdigest()[:16]


def _rows(cond, rows):
  return jax.tree.map(lambda leaf: leaf[rows], cond)
