"""The programs that the benchmarks time: a training step, the loss, a sampler step."""

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import sharding, systems
from vdm_jax.frames import Frames
from vdm_jax.preflight import flops
from vdm_jax.sampling import window
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.training import program

PARTS = ("step", "forward", "sample")


class Ours:
  """The programs of a config, of its `train.batch_size` videos over all devices.

  `sample` is a call of the sampler: of a whole window, none of it given; of a recurrent
  system (RVD) of one frame after a given one.

  Attributes:
    parameters: of the network.
    repeats: how often what is reported happens in a call of a part: sampler steps.
  """

  def __init__(self, config, devices):
    """Builds the programs; compiles nothing, and puts nothing on a device.

    Raises:
      UserError: a field of the config is refused, or the mesh does not fit.
    """
    size = config["train"]["batch_size"]
    self._system = systems.build(config)
    self._size = size
    self._programs = program.Program(self._system, config, devices=devices)
    rows = sharding.batch(self._programs.mesh)
    recurrent = self._system.windows.recurrent
    # Guidance would call the network twice a step.
    settings = SamplerSettings.from_config(config["sampling"], guidance=0.0)
    sample = sharding.jit(
      functools.partial(
        window.sample_window, self._system, settings, any_observed=recurrent
      ),
      self._programs.mesh,
      in_shardings=(self._programs.state_sharding.params, rows, rows, rows, rows),
      out_shardings=rows,
    )
    self.repeats = {"step": 1, "forward": 1, "sample": config["sampling"]["steps"]}
    shapes = jax.tree.leaves(self._programs.state_shapes.params)
    self.parameters = sum(leaf.size for leaf in shapes)
    self._calls = {
      "init": self._programs.init,
      "step": self._programs.step,
      "forward": self._programs.evaluate,
      "sample": sample,
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, batch = self._programs.state_shapes, self._system.batch_spec(size)
    sampled = jax.eval_shape(self._sampled)
    self._shapes = {
      "init": (key,),
      "step": (state, batch, key),
      "forward": (state.params, batch, key),
      "sample": (state.params, *sampled),
    }

  def lower(self, part: str) -> Any:
    """Lowers a part, or 'init', for shapes alone."""
    return self._calls[part].lower(*self._shapes[part])

  def use(self, part: str, compiled: Any) -> None:
    """Sets the compiled program that a part runs, from what `lower` returned."""
    self._calls[part] = compiled

  def flop(self, part: str) -> float:
    """Counts a part's operations, recomputed ones each time, see `preflight.flops`."""
    return flops.count(self._calls[part], *self._shapes[part]) / self.repeats[part]

  def start(self) -> None:
    """Makes state and batch on the devices."""
    key = jax.random.key(0)
    rows = sharding.batch(self._programs.mesh)
    self._state = self._calls["init"](key)
    batch = jax.device_put(random_batch(self._system, self._size), rows)
    self._trained = batch, key
    self._given = jax.device_put(self._sampled(), rows)

  def begin(self, part: str) -> Any:
    """Runs a part once, without waiting for it; what comes out."""
    call = self._calls[part]
    if part == "step":
      self._state, done = call(self._state, *self._trained)
      return self._state.step, done
    given = self._given if part == "sample" else self._trained
    return call(self._state.params, *given)

  def measure(self, part: str) -> tuple[float, float]:
    """Runs a part once; seconds, wall and processor, of one of its repeats."""
    wall, processor = measure(lambda: jax.block_until_ready(self.begin(part)))
    return wall / self.repeats[part], processor / self.repeats[part]

  def _sampled(self):
    """Makes the video, frames, signals and keys of a call of the sampler."""
    system, size = self._system, self._size
    recurrent = system.windows.recurrent
    length = 2 if recurrent else system.window
    slots = np.broadcast_to(np.arange(length, dtype=np.int32), (size, length))
    observed = slots < (1 if recurrent else 0)
    frames = Frames(
      index=slots * system.stride,
      observed=observed,
      latent=~observed,
      group=np.zeros_like(slots),
    )
    video = jnp.zeros((size, length, *system.frame_shape), jnp.float32)
    cond = _zeros(system.cond.shapes(size, 1))
    keys = jax.random.split(jax.random.key(1), size)
    return jax.tree.map(jnp.asarray, (video, frames, cond, keys))


def measure(call) -> tuple[float, float]:
  """Measures the seconds of one call: wall, processor."""
  processor, wall = time.process_time(), time.perf_counter()
  call()
  return time.perf_counter() - wall, time.process_time() - processor


def random_batch(system, batch_size: int):
  """Makes a training batch of noise for a system."""
  rng = np.random.default_rng(0)
  task = system.task
  lengths = [1000] * task.num_sources
  chosen = [task.sample(rng, lengths) for _ in range(batch_size)]
  names = [field.name for field in dataclasses.fields(Frames)]
  shape = system.batch_spec(batch_size)["video"].shape
  return {
    "video": rng.integers(0, 256, shape, dtype=np.uint8),
    "frames": Frames(**{n: np.stack([getattr(c, n) for c in chosen]) for n in names}),
    "cond": _zeros(system.cond.shapes(batch_size, task.num_sources)),
  }


def _zeros(shapes):
  return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
