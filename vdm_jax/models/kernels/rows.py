"""Rows of a batch by device: a kernel is called with the rows of its device.

The compiler cannot split a kernel. Programs therefore declare the mesh over which they
split their batch (`sharding.jit`), and a kernel runs on each device's rows.
"""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, PartitionSpec


def of_device(rows: int) -> int | None:
  """Returns how many of the rows of a batch each device has.

  It is None if the program does not declare its mesh, or if the mesh does not divide
  the batch, which the compiler then splits.
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

  `of_device(N)` must not be None.
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
    # Kernels do not declare which results are equal on all devices.
    check_vma=False,
  )(*args)


def _split(mesh) -> tuple[str, ...]:
  """Returns the axes over which the compiler splits the batch."""
  kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return tuple(name for name, kind in kinds if kind == AxisType.Auto)
