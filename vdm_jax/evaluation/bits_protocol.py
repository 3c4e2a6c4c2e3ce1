"""Protocol `bits`: the likelihood bound of held-out clips, in bits per dimension.

The bound is that of Ho et al. 2020, eq. 5, for discrete schedules, and of Kingma et al.
2021, eq. 17, for continuous time (VDM, section 2). Given frames do not count.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from etils import epath

from vdm_jax import frames as frames_lib
from vdm_jax import run_data, sampling, text_table
from vdm_jax.diffusion import bound, schedule
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol
from vdm_jax.pixels import to_float

_CONTINUOUS_DRAWS = 32


@dataclasses.dataclass(frozen=True)
class Bits:
  """Measures the likelihood bound, see the module's text."""

  name: ClassVar[str] = "bits"

  workdir: str = protocol.setting("", "run or export whose model is measured")
  split: str = protocol.setting("test", "split whose first clips are measured")
  num_clips: int = protocol.setting(64, "number of clips, from the first on")
  num_context: int = protocol.setting(0, "number of given frames at the start")
  draws: int = protocol.setting(
    0,
    "number of noise levels per clip; 0: all of a discrete schedule, else 32",
  )
  ema: str = protocol.setting(
    "", "rate of the average of the weights; default the first"
  )
  step: int = protocol.setting(0, "step of the checkpoint; 0: the newest")
  seed: int = protocol.setting(0, "seed of the noise")
  batch_size: int = protocol.setting(16, "number of clips at a time")

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Measures the bound and returns the mean over clips."""
    del out
    if not self.workdir:
      raise UserError("bits: expected `workdir=RUN`")
    protocol.check_least(self, draws=0, num_clips=1, batch_size=1, step=0)
    model = sampling.load(self.workdir, ema=self.ema or None, step=self.step or None)
    system = model.system
    self._check(system)
    config = model.info["config"]
    clips = run_data.given_clips(
      config, system, self.split, self.num_clips, range(system.window)
    )
    program = jax.jit(functools.partial(terms, system, self.num_context, self.draws))
    found: dict[str, list[np.ndarray]] = {}
    starts = range(0, len(clips), self.batch_size)
    for first in tqdm.tqdm(starts, desc="bits", unit="batch", disable=None):
      batch = clips[first : first + self.batch_size]
      numbers = first + np.arange(self.batch_size)
      keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.seed), numbers)
      filled = np.concatenate(
        [batch, batch[:1].repeat(self.batch_size - len(batch), axis=0)]
      )
      for name, values in program(model.params, to_float(filled), keys).items():
        found.setdefault(name, []).append(np.asarray(values)[: len(batch)])
    bits = {name: np.concatenate(parts) for name, parts in found.items()}
    discrete = isinstance(system.schedule, schedule.DiscreteSchedule)
    steps = system.schedule.num_steps if discrete else None
    calls = self.draws or steps or _CONTINUOUS_DRAWS
    if discrete:  # Each step is taken once at most.
      calls = min(calls, steps)
    result = {
      "bits": {name: _mean(values) for name, values in bits.items()},
      "clips": len(clips),
      "latent_frames": system.window - self.num_context,
      "time": "discrete" if discrete else "continuous",
      "schedule_steps": steps,
      "levels_per_clip": calls,
      "data": config["data"]["name"],
      "checkpoint_step": model.info["step"],
      "ema": model.info["ema"],
    }
    rows = [["bits per dimension", "mean over clips"]]
    rows += [
      [name, text_table.cell(value["mean"], value["error"])]
      for name, value in result["bits"].items()
    ]
    head = (
      f"{len(clips)} clips of {result['data']} {self.split}, "
      f"{result['latent_frames']} frames each"
      + f" after {self.num_context} given ones" * bool(self.num_context)
      + f"; {result['time']} time, {calls} noise levels per clip"
    )
    return protocol.Outcome(result, f"{head}\n{text_table.table(rows)}")

  def _check(self, system: Any) -> None:
    if system.windows.recurrent:
      raise UserError(
        "bits: is of models that diffuse frames; RVD diffuses residuals of a "
        "prediction, and no bound on the frames is known for it here"
      )
    least = system.min_given
    if least >= system.window:  # A whole long video needs more than each window.
      least = 1
    if not least <= self.num_context < system.window:
      raise UserError(
        f"`num_context={self.num_context}`: expected {least} to {system.window - 1}"
      )
    if not system.observed.told and self.num_context:
      raise UserError(
        f"`num_context={self.num_context}`: this model is not told of given frames; "
        "its bound is of whole clips, expected 0"
      )


def terms(
  system: Any, context: int, draws: int, params: Any, video: jax.Array, keys: jax.Array
) -> dict[str, jax.Array]:
  """Computes the bound of clips and its terms, [B] each, in bits per dimension.

  Args:
    system: system of the model.
    context: number of given frames at the start.
    draws: noise levels per clip; 0 is the protocol's default.
    params: parameters of the network.
    video: float [B, T, H, W, C] in [-1, 1].
    keys: one key per clip [B].
  """
  frames = frames_lib.clip(*video.shape[:2], observed=range(context))
  cond = system.cond.hide_all(system.cond.shapes(len(video), 1))
  encoded = system.encode(params, video, frames, cond)
  denoiser = system.denoiser(params, frames, encoded.context)
  if context:
    denoiser = system.observed.denoiser(denoiser, video, frames.observed)
  counted = {"where": frames.latent, "normalise": "example"}
  if isinstance(system.schedule, schedule.DiscreteSchedule):
    return _discrete(system, denoiser, video, keys, draws, counted)
  return _continuous(system, denoiser, video, keys, draws, counted)


def _discrete(system, denoiser, video, keys, draws, counted):
  total = system.schedule.num_steps
  steps, factor = None, 1.0
  if draws and draws < total:
    # Stratified: a random step from each of `draws` equal parts of the schedule.
    place = jax.vmap(lambda key: jax.random.uniform(key, (draws,)))(keys)
    steps = ((jnp.arange(draws) + place) * (total / draws)).astype(jnp.int32)
    steps = jnp.clip(steps, 0, total - 1)
    factor = total / draws
  found = bound.discrete_bound(
    denoiser,
    system.schedule,
    video,
    key=keys,
    steps=steps,
    gamma=system.gamma,
    **counted,
  )
  diffusion = factor * found.steps.sum(1)
  return {
    "bound": diffusion + found.prior,
    "prior": found.prior,
    "diffusion and decoder": diffusion,
  }


def _continuous(system, denoiser, video, keys, draws, counted):
  draws = draws or _CONTINUOUS_DRAWS

  def draw(index):
    of_clip = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    parts = jax.vmap(lambda key: jax.random.split(key, 3))(of_clip)
    u = jax.vmap(jax.random.uniform)(parts[:, 0])
    normal = jax.vmap(lambda key: jax.random.normal(key, video.shape[1:]))
    return bound.continuous_bound(
      denoiser,
      system.schedule,
      video,
      # The times of a clip are stratified: one in each of `draws` parts.
      (index + u) / draws,
      normal(parts[:, 1]),
      normal(parts[:, 2]),
      **counted,
    )

  found = jax.lax.map(draw, jnp.arange(draws))
  names = {"total": "bound", "prior": "prior", "reconstruction": "decoder"}
  names["diffusion"] = "diffusion"
  return {name: getattr(found, field).mean(0) for field, name in names.items()}


def _mean(values: np.ndarray) -> dict[str, float]:
  error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
  return {"mean": float(values.mean()), "error": float(error)}
