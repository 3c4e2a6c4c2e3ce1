"""Memory of a program before compilation: what its jaxpr keeps alive at once.

Compiling the step of a large network takes minutes, but the arrays that the forward
pass keeps for the backward pass already show that it cannot fit. Those are counted
here, in seconds. As the compiler fuses and shares buffers, it needs somewhat less; a
program is refused only if it would not fit with half of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

from vdm_jax import systems
from vdm_jax.errors import UserError
from vdm_jax.preflight import chips, flops, knobs, lowerable, measure

# Operations without memory of their own: views, and what is recomputed at use.
_FREE = {
  "broadcast_in_dim",
  "convert_element_type",
  "copy",
  "iota",
  "reshape",
  "squeeze",
  "stop_gradient",
}
_SURE = 0.5  # Share of the estimate that a compiled program needs at least.


def check(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> None:
  """Checks that a training run may fit; the error names settings that might.

  Args:
    config: config as a plain dict.
    devices: devices to run on.

  Raises:
    UserError: the run cannot fit, or the config itself is invalid.
  """
  available = measure.capacity(devices)
  if _small(config, config["train"]["batch_size"], available * len(devices)):
    return
  needed, found = training(config, devices)
  if needed <= available:
    return
  gib = chips.GIB
  tried = []
  for settings in knobs.knobs(config, found):
    changed = knobs.with_settings(config, settings)
    least, _ = training(changed, devices)
    tried.append((settings, least))
    if least <= available:
      break
  head = (
    f"this run would not fit: a device needs at least {needed / gib:.1f} GiB, of which "
    f"{found['hbm']['arguments'] / gib:.1f} are weights, averages and optimizer, and "
    f"has {available / gib:.1f}. "
  )
  if tried and tried[-1][1] <= available:
    settings, least = tried[-1]
    raise UserError(
      f"{head}These settings may fit, and are slower: "
      f"{knobs.flags(settings)} (at least {least / gib:.1f} GiB)"
    )
  raise UserError(
    f"{head}No way of computing it in parts fits"
    + f" ({knobs.flags(tried[-1][0])}: {tried[-1][1] / gib:.1f} GiB)" * bool(tried)
    + ": fewer or smaller frames (config.task.num_frames, config.data.frame_shape), or "
    "fewer channels (config.model.channels)"
  )


def check_sampling(
  config: Mapping[str, Any],
  what: str,
  devices: Sequence[jax.Device],
  batch_size: int,
) -> None:
  """Checks that a batch of sampled videos may fit; the error says how many might.

  Args:
    config: config as a plain dict, with the call's `sampling`.
    what: 'sample', or 'enlarge' for guidance by a smaller video.
    devices: devices to run on.
    batch_size: number of videos at a time.

  Raises:
    UserError: the batch cannot fit.
  """
  available = measure.capacity(devices)
  if _small(config, 2 * batch_size, available * len(devices)):
    return
  size, needed = batch_size, sampling(config, what, devices, batch_size)
  first = needed
  while needed > available and size > len(devices):
    size = max(size // 2, len(devices))
    needed = sampling(config, what, devices, size)
  if size == batch_size and needed <= available:
    return
  least, most = first / chips.GIB, available / chips.GIB
  head = (
    f"`batch_size={batch_size}`: so many videos at a time would not fit: a device "
    f"needs at least {least:.1f} GiB and has {most:.1f}. "
  )
  if needed <= available:
    raise UserError(f"{head}`batch_size={size}` may fit")
  raise UserError(
    f"{head}Neither would `batch_size={size}` ({needed / chips.GIB:.1f} GiB): split "
    "the weights over more devices (config.mesh.fsdp of the run), or sample without "
    "guidance"
  )


def sampling(
  config: Mapping[str, Any],
  what: str,
  devices: Sequence[jax.Device],
  batch_size: int,
) -> float:
  """Estimates a lower bound of the bytes to sample a window on a device."""
  built = lowerable.build(config, what, devices, batch_size)
  alive = peak(built.call, *built.args) / math.prod(built.mesh.values())
  return built.argument_bytes + _SURE * alive


def _small(config: Mapping[str, Any], videos: int, available: int) -> bool:
  """Returns whether a thousand float32 arrays of the finest level fit."""
  height, width, _ = config["data"]["frame_shape"]
  frames = systems.build(config).task.num_frames
  channels = config["model"].get("channels", 256)
  return 4000 * videos * frames * height * width * channels < available


def training(
  config: Mapping[str, Any], devices: Sequence[jax.Device]
) -> tuple[float, dict[str, Any]]:
  """Estimates a lower bound of a step's bytes on a device, and the input of `knobs`."""
  built = lowerable.build(config, "train", devices)
  found = {
    "what": "train",
    "devices": len(devices),
    "batch_size": built.batch_size,
    "mesh": built.mesh,
    "hbm": {
      "arguments": built.argument_bytes,
      "capacity": measure.capacity(devices),
    },
  }
  sampling = built.argument_bytes + built.sampling_bytes
  if sampling > found["hbm"]["capacity"]:
    return sampling, found
  # The new state replaces the old one, which is donated.
  state = sum(_bytes(leaf) for leaf in jax.tree.leaves(built.args[0]))
  alive = max(peak(built.call, *built.args) - state, 0) / len(devices)
  return max(built.argument_bytes + _SURE * alive, sampling), found


def peak(function: Callable, *args: Any) -> int:
  """Counts the bytes, without arguments, that a call has alive at the same time.

  Args:
    function: function, which is traced but not run.
    *args: arrays or `jax.ShapeDtypeStruct`s.
  """
  return _peak(flops.traced(function, *args))


def _peak(jaxpr: core.Jaxpr) -> int:
  last = {}
  for number, equation in enumerate(jaxpr.eqns):
    for var in equation.invars:
      if not isinstance(var, core.Literal):
        last[var] = number
  kept = {var for var in jaxpr.outvars if not isinstance(var, core.Literal)}
  sizes: dict[Any, int] = {}
  alive = most = 0
  for number, equation in enumerate(jaxpr.eqns):
    parts = (one for value in equation.params.values() for one in flops.inside(value))
    inner = max(map(_peak, parts), default=0)
    free = equation.primitive.name in _FREE
    made = {var: 0 if free else _bytes(var.aval) for var in equation.outvars}
    sizes |= made
    # The inner jaxpr makes the results, too.
    most = max(most, alive + max(inner, sum(made.values())))
    alive += sum(made.values())
    read = {var for var in equation.invars if not isinstance(var, core.Literal)}
    for var in {*read, *equation.outvars} - kept:
      if last.get(var, number) <= number:  # Not read after this one.
        alive -= sizes.pop(var, 0)
  return max(most, alive)


def _bytes(aval: Any) -> int:
  """Counts the bytes of an abstract array; keys and tokens have none."""
  try:
    return aval.size * aval.dtype.itemsize
  except (AttributeError, TypeError):
    return 0
