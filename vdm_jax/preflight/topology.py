"""Slices by name ('v5e:2x4'): their chips, and devices to compile for."""

import dataclasses
import importlib.util
import math
import os
import re

from vdm_jax.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One kind of chip; all figures are of a whole chip, not of a core.

  Attributes:
    hbm: bytes of memory.
    usable: bytes of it that the compiler hands out; the rest is the runtime's.
    flops: multiply-adds, counted as two, a second in bfloat16 at most.
    bandwidth: bytes of memory a second at most.
    dimensions: of the grid of chips in a slice, 2 or 3.
    example: a slice of it.
    options: for `get_topology_desc`.
  """

  hbm: int
  usable: int
  flops: float
  bandwidth: float
  dimensions: int
  example: str
  options: tuple[tuple[str, str], ...] = ()


# Memory, speed and bandwidth: the tables of cloud.google.com/tpu/docs (v4, v5e, v5p,
# v6e, tpu7x). Usable memory: what the compiler of libtpu 0.0.42 says is available
# when a program exceeds it. A chip of v4 and v5p is one device (its two cores work
# as one, 'megacore'); a chip of tpu7x is two devices.
CHIPS = {
  "v4": Chip(
    hbm=32 * GIB,
    usable=int(30.75 * GIB),
    flops=275e12,
    bandwidth=1.2e12,
    dimensions=3,
    example="v4:4x4x8",
    options=(("chip_config_name", "megacore"),),
  ),
  "v5e": Chip(
    hbm=16 * GIB,
    usable=int(15.75 * GIB),
    flops=197e12,
    bandwidth=0.81e12,
    dimensions=2,
    example="v5e:2x4",
  ),
  "v5p": Chip(
    hbm=96 * GIB,
    usable=int(95.74 * GIB),
    flops=459e12,
    bandwidth=2.765e12,
    dimensions=3,
    example="v5p:2x2x2",
  ),
  "v6e": Chip(
    hbm=32 * GIB,
    usable=int(31.25 * GIB),
    flops=918e12,
    bandwidth=1.6e12,
    dimensions=2,
    example="v6e:4x4",
  ),
  "tpu7x": Chip(
    hbm=192 * GIB,
    usable=int(2 * 94.75 * GIB),
    flops=2307e12,
    bandwidth=7.38e12,
    dimensions=3,
    example="tpu7x:2x2x1",
  ),
}
# What jax calls them.
_KINDS = {
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU v6e": "v6e",
  "TPU7x": "tpu7x",
}
# Before libtpu loads: ask no metadata server who we are, and let several processes
# load it, as none of them touches a TPU.
ENVIRONMENT = {
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
  """A slice of `CHIPS[generation]`, as a grid of chips."""

  generation: str
  shape: tuple[int, ...]

  @property
  def chip(self) -> Chip:
    return CHIPS[self.generation]

  @property
  def num_chips(self) -> int:
    return math.prod(self.shape)

  def __str__(self) -> str:
    return f"{self.generation}:{'x'.join(map(str, self.shape))}"


def parse(name: str) -> Topology:
  """The slice of a name such as 'v4:4x4x8'.

  Raises:
    UserError: there is no such chip, or the name has another form; lists those
      that there are.
  """
  match = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
  generation = match[1] if match else name.partition(":")[0]
  shape = tuple(int(n) for n in match[2].split("x")) if match else ()
  chip = CHIPS.get(generation)
  if chip is None or len(shape) != chip.dimensions or 0 in shape:
    known = ", ".join(c.example for c in CHIPS.values())
    why = f"{generation} needs {chip.dimensions} sizes" if chip else "no such chip"
    raise UserError(
      f"--topology={name}: {why}; expected GENERATION:CHIPS, a slice of one of these "
      f"(of any size that is built): {known}"
    )
  return Topology(generation, shape)


def check_compiler() -> None:
  """Raises UserError if the TPU compiler is not installed."""
  if importlib.util.find_spec("libtpu") is None:
    raise UserError(
      "preflight for a TPU slice needs the compiler of the libtpu package, which the "
      "extra vdm_jax[tpu] brings (or pip install libtpu); --local does without"
    )


def devices(topology: Topology):
  """Devices of the slice to compile for; `ENVIRONMENT` must be set.

  Raises:
    UserError: no slice has this shape.
  """
  from jax.experimental import topologies

  for name, value in ENVIRONMENT.items():
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
      f"--topology={topology}: the compiler knows no such slice ({reason}); "
      f"one that it knows: {topology.chip.example}"
    ) from error


def chip_of(device) -> Chip | None:
  """The chip of a device at hand, if it is one of `CHIPS`."""
  name = _KINDS.get(device.device_kind)
  return CHIPS[name] if name else None
