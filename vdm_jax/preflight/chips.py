"""Memory and speed of chips, from their makers' tables."""

import dataclasses
import os

GIB = 2**30
# Share of a card's memory that JAX takes, and the variable that changes it.
_FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_DEFAULT_FRACTION = 0.75


@dataclasses.dataclass(frozen=True)
class Chip:
  """One kind of chip; all figures are those of a whole chip, not of a core.

  Attributes:
    hbm: bytes of memory.
    flops: peak operations per second in bfloat16, a multiply-add counted as two.
    bandwidth: peak bytes of memory per second.
    example: number or grid of such chips in the form of `--topology`.
  """

  hbm: int
  flops: float
  bandwidth: float
  example: str

  @property
  def usable(self) -> int:
    """Returns the bytes of memory that a program can use."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Tpu(Chip):
  """A chip of a TPU slice.

  Attributes:
    given: bytes of memory that the compiler allocates; the rest is the runtime's.
    clock: cycles per second, assumed for the compiler's estimates.
    dimensions: dimensions of the grid of chips in a slice, 2 or 3.
    options: options for `get_topology_desc`.
  """

  given: int
  clock: float
  dimensions: int
  options: tuple[tuple[str, str], ...] = ()

  @property
  def usable(self) -> int:
    return self.given


@dataclasses.dataclass(frozen=True)
class Gpu(Chip):
  """A GPU card, with what XLA's compiler needs of its description.

  Attributes:
    name: name that the card reports.
    capability: CUDA's compute capability.
    multiprocessors: number of multiprocessors.
    lanes: float32 lanes per multiprocessor.
    clock: largest number of cycles per second.
    shared: bytes of shared memory per multiprocessor; a block has up to 1 KiB less.
    l2: bytes of the level-2 cache.
  """

  name: str
  capability: tuple[int, int]
  multiprocessors: int
  lanes: int
  clock: float
  shared: int
  l2: int

  @property
  def usable(self) -> int:
    """Returns the bytes that JAX takes at start; CUDA and libraries use the rest.

    The environment variable that JAX reads for this is respected.
    """
    try:
      fraction = float(os.environ.get(_FRACTION) or _DEFAULT_FRACTION)
    except ValueError:
      fraction = _DEFAULT_FRACTION
    return int(self.hbm * fraction)


# Memory, speed and bandwidth are from the tables of cloud.google.com/tpu/docs (v4, v5e,
# v5p, v6e, tpu7x). Given memory is what the compiler of libtpu 0.0.42 reports as
# available when a program exceeds it. A chip of v4 and v5p is one device (its two cores
# work as one, 'megacore'); a chip of tpu7x is two devices.
# Clocks are the speed of a device over the multiply-adds of its matrix units per cycle
# (131,072 for v5e, counted as two; 262,144 for v4 and v5p; 524,288 for v6e and tpu7x).
# With these the compiler (O2) expects 83 to 97 % of that speed for a product of 4,096.
TPUS = {
  "v4": Tpu(
    hbm=32 * GIB,
    given=int(30.75 * GIB),
    flops=275e12,
    bandwidth=1.2e12,
    clock=1.05e9,
    dimensions=3,
    example="v4:4x4x8",
    options=(("chip_config_name", "megacore"),),
  ),
  "v5e": Tpu(
    hbm=16 * GIB,
    given=int(15.75 * GIB),
    flops=197e12,
    bandwidth=0.81e12,
    clock=1.5e9,
    dimensions=2,
    example="v5e:2x4",
  ),
  "v5p": Tpu(
    hbm=96 * GIB,
    given=int(95.74 * GIB),
    flops=459e12,
    bandwidth=2.765e12,
    clock=1.75e9,
    dimensions=3,
    example="v5p:2x2x2",
  ),
  "v6e": Tpu(
    hbm=32 * GIB,
    given=int(31.25 * GIB),
    flops=918e12,
    bandwidth=1.6e12,
    clock=1.75e9,
    dimensions=2,
    example="v6e:4x4",
  ),
  "tpu7x": Tpu(
    hbm=192 * GIB,
    given=int(2 * 94.75 * GIB),
    flops=2307e12,
    bandwidth=7.38e12,
    clock=2.2e9,
    dimensions=3,
    example="tpu7x:2x2x1",
  ),
}

# Cards with NVLink (SXM). Speed and memory bandwidth are from NVIDIA's data sheets;
# multiprocessors, lanes, clocks and caches from its papers on the Ampere and Hopper
# architectures; shared memory from the table of compute capabilities in the CUDA C++
# programming guide; memory is what the cards report, according to XLA's own
# descriptions (xla/backends/gpu/target_config/specs).
GPUS = {
  "h100": Gpu(
    name="NVIDIA H100 80GB HBM3",
    hbm=84_942_979_072,
    flops=989e12,
    bandwidth=3.352e12,
    capability=(9, 0),
    multiprocessors=132,
    lanes=128,
    clock=1.98e9,
    shared=228 << 10,
    l2=50 << 20,
    example="h100:8",
  ),
  "h200": Gpu(
    name="NVIDIA H200",
    hbm=151_397_597_184,
    flops=989e12,
    bandwidth=4.8e12,
    capability=(9, 0),
    multiprocessors=132,
    lanes=128,
    clock=1.98e9,
    shared=228 << 10,
    l2=50 << 20,
    example="h200:8",
  ),
  "a100": Gpu(
    name="NVIDIA A100-SXM4-80GB",
    hbm=85_100_068_864,
    flops=312e12,
    bandwidth=2.039e12,
    capability=(8, 0),
    multiprocessors=108,
    lanes=64,
    clock=1.41e9,
    shared=164 << 10,
    l2=40 << 20,
    example="a100:8",
  ),
  "a100-40gb": Gpu(
    name="NVIDIA A100-SXM4-40GB",
    hbm=42_331_013_120,
    flops=312e12,
    bandwidth=1.555e12,
    capability=(8, 0),
    multiprocessors=108,
    lanes=64,
    clock=1.41e9,
    shared=164 << 10,
    l2=40 << 20,
    example="a100-40gb:8",
  ),
}
ALL: dict[str, Chip] = {**TPUS, **GPUS}

# TPUs by the names that JAX reports.
_KINDS = {
  "TPU v4": "v4",
  "TPU v5 lite": "v5e",
  "TPU v5": "v5p",
  "TPU v5p": "v5p",
  "TPU v6 lite": "v6e",
  "TPU v6e": "v6e",
  "TPU7x": "tpu7x",
}


def tpu_of(device) -> Tpu | None:
  """Finds the chip of a device at hand, if it is one of `TPUS`."""
  name = _KINDS.get(device.device_kind)
  return TPUS[name] if name else None


def chip_of(device) -> Chip | None:
  """Finds the chip of a device at hand, if it is one of `ALL`."""
  cards = (card for card in GPUS.values() if card.name == device.device_kind)
  return tpu_of(device) or next(cards, None)
