"""The mesh and who holds what on it.

Two axes: the batch is split over both, parameters and optimizer state over
`fsdp` alone. One device is the mesh 1 x 1; nothing else changes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vdm_jax import errors
from vdm_jax.errors import UserError

BATCH = ("data", "fsdp")
# Smaller arrays are held whole: gathering them costs more than they weigh.
_MIN_SHARDED = 1 << 16
# When a training step gives devices the weights that they share, `config.mesh.gather`.
GATHER = ("step", "use")
# The TPU compiler's windowed einsums send weights round the chips piece by piece while
# they multiply, and read and write the whole result for each piece: more traffic and
# more memory than a gather. Kernels are never so large (in MiB) that they are made now.
_TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


def make_mesh(
  data: int = -1, fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """A (data, fsdp) mesh; -1 takes all remaining devices.

  Raises:
    UserError: the axes do not multiply to the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  shape = {"data": data, "fsdp": fsdp}
  free = [axis for axis, size in shape.items() if size == -1]
  if len(free) > 1:
    raise UserError("config.mesh: only one of data and fsdp can be -1")
  for axis in free:
    shape[axis] = len(devices) // -(data * fsdp)
  if shape["data"] * shape["fsdp"] != len(devices) or min(shape.values()) < 1:
    raise UserError(
      f"config.mesh: data={data} x fsdp={fsdp} does not fit {len(devices)} devices"
    )
  grid = np.array(devices).reshape(shape["data"], shape["fsdp"])
  return Mesh(grid, BATCH)


def of_config(
  config: Mapping[str, Any], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Makes the mesh of `config.mesh`; raises as `make_mesh`."""
  return make_mesh(config["data"], config["fsdp"], devices)


def gathers_once(config: Mapping[str, Any], mesh: Mesh) -> bool:
  """Tells whether a step gathers its weights before its first micro-batch.

  Args:
    config: `config.mesh`.
    mesh: made of it.

  Raises:
    UserError: `config.gather` is none of `GATHER`.
  """
  # Runs from before the field was there.
  gather = config.get("gather", "step")
  if gather not in GATHER:
    raise errors.unknown("config.mesh.gather", gather, GATHER)
  return gather == "step" and mesh.shape["fsdp"] > 1


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
  """Options for `jax.jit` of programs whose weights are split over the mesh."""
  tpu = mesh.devices.flat[0].platform == "tpu"
  return dict(_TPU_OPTIONS) if tpu and mesh.shape["fsdp"] > 1 else None


def for_sampling(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> Mesh:
  """Makes a mesh of some devices, weights split over as many as in training."""
  fsdp = config.get("mesh", {}).get("fsdp", 1)
  fsdp = len(devices) if fsdp == -1 else math.gcd(fsdp, len(devices))
  return make_mesh(fsdp=fsdp, devices=devices)


def batch(mesh: Mesh) -> NamedSharding:
  """The first axis over every device."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def state(mesh: Mesh, shapes):
  """Shardings of a state: each large array along its longest divisible axis."""
  fsdp = mesh.shape["fsdp"]

  def place(leaf):
    spec = [None] * len(leaf.shape)
    if fsdp > 1 and np.prod(leaf.shape) >= _MIN_SHARDED:
      fitting = [i for i, n in enumerate(leaf.shape) if n % fsdp == 0]
      if fitting:
        spec[max(fitting, key=lambda i: leaf.shape[i])] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(place, shapes)


def global_batch(mesh: Mesh, local):
  """Makes one sharded batch of the rows that each process read."""
  sharding = batch(mesh)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)),
    local,
  )
