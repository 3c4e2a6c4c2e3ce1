"""Which rows of a batch a device has: kernels are called with those alone.

The compiler splits what it knows; it does not know a kernel. Programs say over which
mesh they split their batch (`sharding.jit`), and a kernel runs on each device's rows.
"""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, PartitionSpec


def of_device(rows: int) -> int | None:
  """How many of the rows of a batch each device has.

  None if it is not known: the program does not say its mesh, or the mesh does not
  divide the batch, which is then split by the compiler.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return None
  devices = 1
  for axis in _split(mesh):
    devices *= mesh.shape[axis]
  return None if rows % devices else rows // devices


def map_devices(function: Callable, *args: jax.Array) -> jax.Array:
  """Calls a function on each device's rows of the arguments, [N, ...] each.

  Only where `of_device` has an answer for N.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axes = _split(mesh)
  if mesh.size == 1 or not axes:
    return function(*args)
  spec = PartitionSpec(axes)
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=(spec,) * len(args),
    out_specs=spec,
    axis_names=frozenset(axes),
    # A kernel does not say what is alike on all devices.
    check_vma=False,
  )(*args)


def _split(mesh) -> tuple[str, ...]:
  """Axes over which the compiler splits the batch: here all that it sees to."""
  kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return tuple(name for name, kind in kinds if kind == AxisType.Auto)
