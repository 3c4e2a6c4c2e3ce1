"""Preflight of a config: measurement and, if it does not fit, trial of settings."""

import copy
import datetime
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from vdm_jax import errors
from vdm_jax.preflight import chips, lowerable, worker
from vdm_jax.preflight import measure as measuring
from vdm_jax.preflight import topology as slices

Changes = dict[str, Any]
_OF_TRIED = ("fits", "hbm", "floor_ms", "seconds", "error")


def preflight(
  config: Mapping[str, Any],
  topology: str | None,
  *,
  what: str = "train",
  batch_size: int | None = None,
  effort: str | None = None,
  try_knobs: bool = True,
  say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> dict[str, Any]:
  """Finds out whether a config fits, and how fast it could be.

  Args:
    config: config as a plain dict.
    topology: a slice, 'v5e:2x4', or GPUs, 'h100:8'; None for the devices at hand.
    what: 'train', one training step; 'sample', one step of the sampler; or 'enlarge',
      the same guided by a video of half the height and width.
    batch_size: videos at a time for 'sample'; raised to a multiple of the devices.
    effort: effort of the compiler, one of `measure.EFFORTS`; by default little for a
      topology, and that of a program that runs for the devices at hand.
    try_knobs: whether, if it does not fit, to compile with settings that need less
      memory, cheapest first, until one fits.
    say: called with messages about progress.

  Returns:
    What `summary.render` shows, JSON-serialisable. `fits` is None if the compiler
    failed (`error` says how). `tried` lists other settings, and `settings` is the one
    of them that fits.

  Raises:
    UserError: the config is invalid, there is no such slice, or its compiler is not
      installed.
  """
  if effort is not None and effort not in measuring.EFFORTS:
    raise errors.unknown("`effort`", effort, measuring.EFFORTS)
  if what not in lowerable.WHAT:
    raise errors.unknown("`what`", what, lowerable.WHAT)
  target = slices.parse(topology) if topology else None

  def measure(settings: Changes) -> dict[str, Any]:
    changed = with_settings(config, settings)
    size = settings.get("batch_size", batch_size)
    if target:
      return worker.measure(changed, what, target, size, effort)
    return _measure_local(changed, what, size, effort)

  name = str(target or "the devices here")
  say(f"preflight: compiling the {what} step for {name}; this can take minutes")
  found = {
    "what": what,
    "topology": str(target) if target else None,
    "date": datetime.date.today().isoformat(),
    **measure({}),
  }
  found["tried"], found["settings"] = [], None
  if found["fits"] is not False:
    return found
  say(f"preflight: does not fit: {_memory(found)}")
  ladder = knobs(config, found)
  found["could_help"] = ladder
  for settings in ladder if try_knobs else ():
    say(f"preflight: trying {flags(settings)}")
    other = measure(settings)
    found["tried"].append(
      {
        "settings": settings,
        **{key: other.get(key) for key in _OF_TRIED},
      }
    )
    if other["fits"]:
      say(f"preflight: fits: {_memory(other)}")
      found["settings"] = settings
      break
    say(f"preflight: {other['error'] if other['fits'] is None else _memory(other)}")
  return found


def _measure_local(config, what, batch_size, effort):
  import jax

  devices = jax.devices()
  chip = chips.chip_of(devices[0])
  # A chip of a TPU may be two devices.
  tpu = isinstance(chip, chips.Tpu)
  count = len({tuple(d.coords) for d in devices}) if tpu else len(devices)
  return measuring.measure(
    config,
    what,
    devices,
    chip=chip,
    chips=count,
    batch_size=batch_size,
    effort=effort,
  )


def knobs(config: Mapping[str, Any], found: Mapping[str, Any]) -> list[Changes]:
  """Lists settings that need less memory, those that cost least time first."""
  devices = found["devices"]
  rows = found["batch_size"] // devices  # Videos per device.
  if found["what"] != "train":
    return [{"batch_size": devices * n} for n in (rows // 4, 1) if 0 < n < rows]

  steps: list[Changes] = []
  hbm = found["hbm"]
  fsdp = found["mesh"]["fsdp"]
  # Arguments beyond half the memory leave too little for activations.
  wanted = math.ceil(fsdp * hbm["arguments"] / (hbm["capacity"] / 2))
  wider = [n for n in range(fsdp + 1, devices + 1) if devices % n == 0]
  if hbm["arguments"] > hbm["capacity"] / 2 and wider:
    enough = next((n for n in wider if n >= wanted), wider[-1])
    steps.append({"mesh.data": -1, "mesh.fsdp": enough})
  remat = config["model"].get("remat", "none")
  if remat == "none":
    steps.append({"model.remat": "convolutions"})
  if remat != "block":
    steps.append({"model.remat": "block"})
  now = config["train"]["accumulate"]
  whole = rows // now
  more = [n for n in range(2, whole + 1) if whole % n == 0]
  # A number in between, then one video per device at a time.
  steps += [
    {"train.accumulate": now * n} for n in dict.fromkeys([*more[-2:-1], *more[-1:]])
  ]
  if not any("mesh.fsdp" in step for step in steps) and fsdp < devices:
    steps.append({"mesh.data": -1, "mesh.fsdp": devices})
  if config["mesh"].get("gather", "step") == "step" and devices > 1:
    steps.append({"mesh.gather": "use"})
  together, ladder = {}, []
  for step in steps:
    together = {**together, **step}
    ladder.append(together)
  return ladder


def with_settings(config: Mapping[str, Any], settings: Changes) -> dict[str, Any]:
  """Replaces dotted fields of a config; `batch_size` is not among them."""
  changed = copy.deepcopy(dict(config))
  for path, value in settings.items():
    section, _, field = path.partition(".")
    if field:
      changed[section][field] = value
  return changed


def flags(settings: Changes) -> str:
  """Formats the settings as flags of a command."""
  return " ".join(
    f"--config.{path}={value}" if "." in path else f"--{path}={value}"
    for path, value in settings.items()
  )


def _memory(found) -> str:
  hbm = found["hbm"]
  return (
    f"needs {hbm['total'] / chips.GIB:.1f} of {hbm['capacity'] / chips.GIB:.1f} GiB"
  )
