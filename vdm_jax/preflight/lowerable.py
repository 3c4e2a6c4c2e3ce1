"""The programs that preflight compiles: a training step, or a window's sampler."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdm_jax import frames as frames_lib
from vdm_jax import sharding, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import window
from vdm_jax.sampling.settings import SamplerSettings
from vdm_jax.training import parameters
from vdm_jax.training import program as training

# 'enlarge' is sampling guided by a video of half the height and width, as in a cascade.
WHAT = ("train", "sample", "enlarge")


class Lowerable(NamedTuple):
  """A program for devices, which can be lowered.

  Attributes:
    call: function to trace.
    lower: () -> `jax.stages.Lowered`.
    args: shapes of the arguments.
    argument_bytes: bytes of the arguments on each device.
    parameters: number of parameters of the network.
    batch_size: batch size over all devices.
    mesh: sizes of the mesh's axes.
    repeats: how often the reported part runs in a call: the sampler's steps.
    sampling_bytes: bytes that sampling between training steps holds on a device beside
      the state, without activations.
  """

  call: Callable
  lower: Callable
  args: tuple[Any, ...]
  argument_bytes: int
  parameters: int
  batch_size: int
  mesh: dict[str, int]
  repeats: int
  sampling_bytes: int = 0


def build(
  config: Mapping[str, Any],
  what: str,
  devices: Sequence[jax.Device],
  batch_size: int | None = None,
) -> Lowerable:
  """Builds the program of a config for devices.

  Args:
    config: config as a plain dict.
    what: one of `WHAT`.
    devices: devices, which need not exist.
    batch_size: videos at a time for `sample`; training has that of the config.

  Raises:
    UserError: a field of the config is invalid, or the mesh does not fit.
  """
  system = systems.build(config)
  if what == "train":
    return _training(config, system, devices)
  return _sampling(config, system, devices, batch_size or 16, what == "enlarge")


def _training(config, system, devices) -> Lowerable:
  programs = training.Program(system, config, devices=devices)
  size = config["train"]["batch_size"]
  rows = sharding.batch(programs.mesh)
  batch = system.batch_spec(size)
  return Lowerable(
    call=programs.step,
    lower=programs.lower_step,
    args=programs.step_arguments(),
    argument_bytes=_bytes(programs.state_shapes, programs.state_sharding)
    + _bytes(batch, jax.tree.map(lambda _: rows, batch)),
    parameters=parameters.count(programs.state_shapes.params),
    batch_size=size,
    mesh=dict(programs.mesh.shape),
    repeats=1,
    sampling_bytes=_sampled(config, system, programs),
  )


def _sampled(config, system, programs) -> int:
  """Counts the bytes of averages that `sampling.Model` holds between training steps.

  A single process samples on the mesh that it trains on, with the arrays of the state.
  Of several processes each has all weights on its own devices.
  """
  train = config["train"]
  samples = train["num_samples"] and train["sample_every"]
  if not system.can_sample or not (samples or train.get("eval_fvd_every", 0)):
    return 0
  mesh = sharding.for_sampling(config, _of_a_process(programs.mesh.devices.flat))
  if mesh == programs.mesh:
    return 0
  params = programs.state_shapes.params
  return _bytes(params, sharding.state(mesh, params, sharding.rules_of(config)))


def _of_a_process(devices: Iterable[jax.Device]) -> list[jax.Device]:
  """Lists the devices of one process; all processes have equally many."""
  devices = list(devices)
  return [d for d in devices if d.process_index == devices[0].process_index]


def _sampling(config, system, devices, batch_size, enlarges) -> Lowerable:
  """Builds the program of `sampling.Model`, with its sharding of weights and videos.

  Of several processes each samples videos of its own, on its own devices.
  """
  mesh = sharding.for_sampling(config, _of_a_process(devices))
  size = -(-batch_size // mesh.size) * mesh.size
  settings = SamplerSettings.from_config(config["sampling"])
  rows = sharding.batch(mesh)
  params = jax.eval_shape(system.init, _key())
  placed = sharding.state(mesh, params, sharding.rules_of(config))
  step = sharding.jit(
    functools.partial(
      window.sample_window,
      system,
      settings,
      # The costliest case is guidance towards given frames, with a backward pass.
      any_observed=enlarges or bool(settings.towards_given),
    ),
    mesh,
    in_shardings=(placed, *[rows] * 6),
    out_shardings=rows,
  )
  length = system.window

  args = (
    params,
    jax.ShapeDtypeStruct((size, length, *system.frame_shape), jnp.float32),
    frames_lib.spec(size, length),
    system.cond.shapes(size, 1),
    jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size)),
    None,
    _half(system, size) if enlarges else None,
  )

  grid = settings.grid(system.schedule)
  return Lowerable(
    call=step,
    lower=lambda: step.lower(*args),
    args=args,
    argument_bytes=_bytes(params, placed),
    parameters=parameters.count(params),
    batch_size=size,
    mesh=dict(mesh.shape),
    repeats=grid.logsnr.shape[0] - 1,
  )


def _half(system, size) -> window.LowRes:
  """Describes a video of half the height and width.

  Raises:
    UserError: height or width is odd, or the system is recurrent.
  """
  height, width, channels = system.frame_shape
  if height % 2 or width % 2 or system.windows.recurrent:
    raise UserError("`what=enlarge`: expected frames of even size, and no roll-out")
  shape = (size, system.window, height // 2, width // 2, channels)
  return window.LowRes(
    jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape[:2], jnp.bool_)
  )


def _key():
  return jax.eval_shape(lambda: jax.random.key(0))


def _bytes(shapes, placement) -> int:
  """Counts the bytes of arrays on each device."""

  def one(leaf, place):
    held = jax.ShapeDtypeStruct(place.shard_shape(leaf.shape), leaf.dtype)
    return held.size * held.dtype.itemsize

  return sum(jax.tree.leaves(jax.tree.map(one, shapes, placement)))
