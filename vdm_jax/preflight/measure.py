"""Measures memory, work and collectives of a program by compiling it."""

import contextlib
import importlib.metadata
import math
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from vdm_jax.preflight import chips as makers
from vdm_jax.preflight import cycles, flops, hlo, lowerable

# Efforts of the compiler; None is that for programs that run.
EFFORTS = ("O0", "O1", "O2", "O3")
# For programs that are never run: skipping passes that matter only for speed makes the
# TPU compiler about four times faster; memory differs by a few percent.
LITTLE = "O0"
_CONTAINER = pathlib.Path("/sys/fs/cgroup/memory.max")
_GPU_PACKAGES = ("jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12", "nvidia-cudnn-cu12")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AMOUNT = r"([\d.]+)([KMGT]?)"
_OUT_OF_MEMORY = (
  re.compile(rf"Used {_AMOUNT} of {_AMOUNT} hbm", re.I),
  re.compile(rf"\({_AMOUNT}\) exceeds available HBM \({_AMOUNT}\)", re.I),
)


def measure(
  config: Mapping[str, Any],
  what: str,
  devices: Sequence[jax.Device],
  *,
  chip: makers.Chip | None = None,
  chips: int | None = None,
  usable: int | None = None,
  batch_size: int | None = None,
  effort: str | None = None,
) -> dict[str, Any]:
  """Compiles a program of a config for devices and measures its needs.

  Args:
    config: config as a plain dict.
    what: 'train', 'sample' or 'enlarge'.
    devices: devices, which need not exist.
    chip: chip of the devices, if known.
    chips: number of chips; default that of the devices.
    usable: bytes of memory of a chip; default what the devices, if at hand, report.
    batch_size: batch size of 'sample'.
    effort: effort of the compiler, one of `EFFORTS`; default that for programs that
      run.

  Returns:
    What `preflight` returns, without names and knobs. All figures are per chip, and
    those of `sample` per sampler step, while each of `processes` samples a batch.
    `fits` is None, with `error`, if the compiler failed for another reason than memory.

  Raises:
    UserError: the config is invalid, or does not fit the number of devices.
  """
  per_chip = len(devices) // (chips or len(devices))
  built = lowerable.build(config, what, devices, batch_size)
  found: dict[str, Any] = {
    "chips": len(devices) // per_chip,
    "devices": len(devices),
    "processes": len(devices) // math.prod(built.mesh.values()),
    "parameters": built.parameters,
    "batch_size": built.batch_size,
    "mesh": built.mesh,
    "remat": config["model"].get("remat", "none"),
    "accumulate": config["train"]["accumulate"] if what == "train" else 1,
    "fits": None,
    "hbm": {
      "arguments": built.argument_bytes * per_chip,
      "sampling": built.sampling_bytes * per_chip,
      "temporaries": None,
      "total": None,
      "capacity": usable or per_chip * capacity(devices),
    },
    "flops": None,
    "bytes": None,
    "floor_ms": {"compute": None, "memory": None},
    "collectives": None,
    "effort": effort or "default",
    "estimate": None,
    "seconds": {"lower": None, "compile": None},
    "versions": versions(devices[0].platform),
  }
  hbm = found["hbm"]
  # The arguments' size is known before anything is compiled.
  for least, reason in (
    (hbm["arguments"], "the arguments alone exceed the memory"),
    (
      hbm["arguments"] + hbm["sampling"],
      "sampling between steps holds weights beside the state: more than the memory",
    ),
  ):
    if least > hbm["capacity"]:
      found.update(fits=False, reason=reason)
      hbm["total"] = least
      return found

  start = time.monotonic()
  work = flops.count(built.call, *built.args) / built.repeats
  work *= per_chip / math.prod(built.mesh.values())
  found["flops"] = work
  if chip:
    found["floor_ms"]["compute"] = 1e3 * work / chip.flops
  lowered = built.lower()
  found["seconds"]["lower"] = time.monotonic() - start
  start = time.monotonic()
  try:
    with _trying(effort):
      compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    found["seconds"]["compile"] = time.monotonic() - start
    needed = out_of_memory(str(error))
    if needed is None:
      found["error"] = str(error)[:2000]
      return found
    total, hbm["capacity"] = (per_chip * amount for amount in needed)
    hbm["total"] = max(total, hbm["arguments"])
    found.update(fits=False, reason=str(error).splitlines()[0])
    return found
  found["seconds"]["compile"] = time.monotonic() - start
  _read(found, compiled, chip, per_chip, built.repeats)
  return found


def _read(found, compiled, chip, per_chip, repeats) -> None:
  """Adds the figures of a compiled program."""
  memory, hbm = compiled.memory_analysis(), found["hbm"]
  outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
  parts = {
    "arguments": memory.argument_size_in_bytes,
    "outputs": outputs,  # Beyond the donated arguments.
    "temporaries": memory.temp_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  hbm.update({name: size * per_chip for name, size in parts.items()})
  hbm["total"] = sum(parts.values()) * per_chip
  found["fits"] = hbm["total"] <= hbm["capacity"]
  module = hlo.Module(compiled.as_text())
  moved = module.traffic() * per_chip / repeats
  found["bytes"] = moved
  if chip:
    found["floor_ms"]["memory"] = 1e3 * moved / chip.bandwidth
  found["collectives"] = {
    kind: {name: amount * per_chip / repeats for name, amount in total.items()}
    for kind, total in module.collectives().items()
  }
  if isinstance(chip, makers.Tpu):
    found["estimate"] = cycles.estimate(module, chip, repeats, found["flops"])


@contextlib.contextmanager
def _trying(effort: str | None) -> Iterator[None]:
  """Sets the compiler's effort within the context."""
  before = jax.config.jax_optimization_level
  jax.config.update("jax_optimization_level", effort or before)
  try:
    yield
  finally:
    jax.config.update("jax_optimization_level", before)


def out_of_memory(message: str) -> tuple[float, float] | None:
  """Parses (needed, available) bytes of an out-of-memory error; None for others."""
  for pattern in _OUT_OF_MEMORY:
    match = pattern.search(message)
    if match:
      needed, unit, available, of_unit = match.groups()
      return (
        float(needed) * _UNITS[unit.upper()],
        float(available) * _UNITS[of_unit.upper()],
      )
  return None


def versions(platform: str) -> dict[str, str]:
  """Finds the versions of the packages that determine a platform's figures."""
  found = {"jax": jax.__version__}
  names = _GPU_PACKAGES if platform in ("cuda", "gpu") else ("libtpu",)
  for name in names:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "none"
  return found


def capacity(devices: Sequence[jax.Device]) -> int:
  """Returns the bytes of a device at hand; a CPU device has a share of the host's."""
  # Only local devices report it; all are assumed to be alike.
  devices = [d for d in devices if d.process_index == jax.process_index()] or devices
  limit = (devices[0].memory_stats() or {}).get("bytes_limit")
  if limit:
    return limit
  total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  with contextlib.suppress(OSError, ValueError):  # A container may have a lower limit.
    total = min(total, int(_CONTAINER.read_text()))
  return total // len(devices)
