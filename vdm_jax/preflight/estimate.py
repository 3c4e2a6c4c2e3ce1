"""Memory of a program before it is compiled: what its jaxpr keeps alive at once.

Compiling the step of a large network takes minutes; that it cannot fit is known from
the arrays which the forward pass keeps for the backward pass. Those are counted here,
in seconds. The compiler fuses and shares buffers, so that it needs less by a part; a
program is refused only if it would not fit with half of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend import core

from vdm_jax.errors import UserError
from vdm_jax.preflight import flops, knobs, measure, program
from vdm_jax.preflight import topology as slices

# Views, or made again where they are used: no memory of their own.
_FREE = {
  "broadcast_in_dim",
  "convert_element_type",
  "copy",
  "iota",
  "reshape",
  "squeeze",
  "stop_gradient",
}
_SURE = 0.5  # Of the estimate that a compiled program needs at least.


def check(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> None:
  """Refuses a training run that cannot fit, with settings that might.

  Args:
    config: as a plain dict.
    devices: that it would run on.

  Raises:
    UserError: it cannot fit; or the config itself is refused.
  """
  available = measure.capacity(devices)
  if _small(config, available * len(devices)):
    return
  needed, found = training(config, devices)
  if needed <= available:
    return
  gib = slices.GIB
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


def _small(config: Mapping[str, Any], available: int) -> bool:
  """Tells whether a thousand float32 arrays, as large as the finest level's, fit."""
  height, width, _ = config["data"]["frame_shape"]
  task, channels = config["task"], config["model"].get("channels", 256)
  frames = task.get("num_frames") or task.get("max_frames") or 1
  frames += task.get("num_images") or 0
  rows = config["train"]["batch_size"] * frames
  return 4000 * rows * height * width * channels < available


def training(
  config: Mapping[str, Any], devices: Sequence[jax.Device]
) -> tuple[float, dict[str, Any]]:
  """Estimates the least bytes of a step on a device; also gives what `knobs` wants."""
  built = program.build(config, "train", devices)
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
  # The new state takes the place of the old one, which is donated.
  state = sum(_bytes(leaf) for leaf in jax.tree.leaves(built.args[0]))
  alive = max(peak(built.call, *built.args) - state, 0) / len(devices)
  return max(built.argument_bytes + _SURE * alive, sampling), found


def peak(function: Callable, *args: Any) -> int:
  """Counts the bytes beside the arguments that a call has alive at once, in all.

  Args:
    function: traced, not run.
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
    # What is inside makes its results, too.
    most = max(most, alive + max(inner, sum(made.values())))
    alive += sum(made.values())
    read = {var for var in equation.invars if not isinstance(var, core.Literal)}
    for var in {*read, *equation.outvars} - kept:
      if last.get(var, number) <= number:  # Nobody reads it after this one.
        alive -= sizes.pop(var, 0)
  return max(most, alive)


def _bytes(aval: Any) -> int:
  """Counts the bytes of an abstract array; keys and tokens have none."""
  try:
    return aval.size * aval.dtype.itemsize
  except (AttributeError, TypeError):
    return 0
