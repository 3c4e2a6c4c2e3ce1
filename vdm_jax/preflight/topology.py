"""Devices by name ('v5e:2x4', 'h100:8'), for compilation without having them."""

import dataclasses
import importlib.util
import math
import os
import re

from vdm_jax.errors import UserError
from vdm_jax.preflight import chips, gpus

# Must be set before libtpu is loaded: it must not query the metadata server, and
# several processes may load it, as none of them uses a TPU.
_ENVIRONMENT = {
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "JAX_PLATFORMS": "cpu",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_STDERR_LOG_LEVEL": "3",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice of `chips.TPUS` as a grid of chips, or hosts with `chips.GPUS`."""

  generation: str
  shape: tuple[int, ...]

  @property
  def chip(self) -> chips.Chip:
    return chips.ALL[self.generation]

  @property
  def is_gpu(self) -> bool:
    return self.generation in chips.GPUS

  @property
  def num_chips(self) -> int:
    return math.prod(self.shape)

  def __str__(self) -> str:
    shape = self.shape[1:] if self.is_gpu and self.shape[0] == 1 else self.shape
    return f"{self.generation}:{'x'.join(map(str, shape))}"


def parse(name: str) -> Topology:
  """Parses the name of a slice, such as 'v4:4x4x8', or of cards, such as 'h100:2x8'.

  Raises:
    UserError: there is no such chip (the message lists those that exist), or the name
      has another form.
  """
  match = re.fullmatch(r"([\w-]+):(\d+(?:x\d+)*)", name)
  generation = match[1] if match else name.partition(":")[0]
  shape = tuple(int(n) for n in match[2].split("x")) if match else ()
  chip = chips.ALL.get(generation)
  if isinstance(chip, chips.Gpu):
    return Topology(generation, gpus.hosts(name, shape))
  if chip is None or len(shape) != chip.dimensions or 0 in shape:
    known = ", ".join(c.example for c in chips.ALL.values())
    why = f"{generation} needs {chip.dimensions} sizes" if chip else "no such chip"
    raise UserError(
      f"`topology={name}`: {why}; expected GENERATION:CHIPS, a slice of one of these "
      f"(of any size that is built): {known}"
    )
  return Topology(generation, shape)


def environment(topology: Topology) -> dict[str, str]:
  """Returns the variables for a process that compiles for these devices."""
  return gpus.environment() if topology.is_gpu else _ENVIRONMENT


def check_compiler(topology: Topology) -> None:
  """Raises UserError if the compiler for these devices is not installed."""
  if topology.is_gpu:
    gpus.check_compiler()
  elif importlib.util.find_spec("libtpu") is None:
    raise UserError(
      "preflight for a TPU slice needs the compiler of the libtpu package, which the "
      "extra vdm_jax[tpu] brings (or pip install libtpu); `vdm-jax preflight --local` "
      "does without"
    )


def devices(topology: Topology):
  """Makes the devices to compile for; the variables of `environment` must be set.

  Raises:
    UserError: no slice has this shape.
  """
  if topology.is_gpu:
    return gpus.devices(topology.chip, *topology.shape)
  from jax.experimental import topologies

  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  options = dict(topology.chip.options)
  if topology.num_chips == 1:
    options["chips_per_host_bounds"] = [1, 1, 1]
  try:
    return topologies.get_topology_desc(
      platform="tpu", topology_name=str(topology), **options
    ).devices
  except Exception as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"`topology={topology}`: the compiler knows no such slice ({reason}); "
      f"one that it knows: {topology.chip.example}"
    ) from error
