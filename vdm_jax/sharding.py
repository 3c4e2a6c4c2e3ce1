"""The mesh and who holds what on it.

Two axes: the batch is split over both, parameters and optimizer state over
`fsdp` alone. One device is the mesh 1 x 1; nothing else changes.
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vdm_jax import errors
from vdm_jax.errors import UserError

BATCH = ("data", "fsdp")
# Smaller arrays are held whole: gathering them costs more than they weigh.
_MIN_SHARDED = 1 << 16
# Who holds what: the first pattern that is found in the path of an array says. It is
# split over `fsdp` along its 'longest' axis that divides (small ones are held whole),
# along the axis of a number, or held 'whole' everywhere.
Rules = Sequence[tuple[str, str | int]]
RULES: Rules = ((".*", "longest"),)
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
  return Mesh(_grid(devices, (shape["data"], shape["fsdp"])), BATCH)


def _grid(devices: Sequence[Any], shape: tuple[int, int]) -> np.ndarray:
  """Lays devices out by the links of the slice, as JAX knows them for each chip."""
  if devices[0].platform == "tpu":
    try:
      return mesh_utils.create_device_mesh(
        shape, devices, allow_split_physical_axes=True
      )
    except (AssertionError, NotImplementedError, ValueError):
      pass  # A part of a slice, or several slices: in the order of their processes.
  return np.array(devices).reshape(shape)


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
  """Options for programs whose weights may be split over the mesh."""
  tpu = mesh.devices.flat[0].platform == "tpu"
  return dict(_TPU_OPTIONS) if tpu and mesh.shape["fsdp"] > 1 else None


def rules_of(config: Mapping[str, Any]) -> Rules:
  """`config.mesh.rules`, of a whole config; none of runs from before it was there."""
  return config.get("mesh", {}).get("rules", ())


def for_sampling(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> Mesh:
  """Makes a mesh of some devices, weights split over as many as in training."""
  fsdp = config.get("mesh", {}).get("fsdp", 1)
  fsdp = len(devices) if fsdp == -1 else math.gcd(fsdp, len(devices))
  return make_mesh(fsdp=fsdp, devices=devices)


def jit(function: Callable, mesh: Mesh, **kwargs):
  """Makes `jax.jit` of a function whose parts may ask for the mesh.

  What the compiler cannot split, a kernel, is called on each device's part of the batch
  (`models.kernels.rows`). Options of the mesh's compiler are set.
  """

  @functools.wraps(function)
  def on_mesh(*args, **kwargs):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **kwargs)

  return jax.jit(on_mesh, compiler_options=compiler_options(mesh), **kwargs)


def batch(mesh: Mesh) -> NamedSharding:
  """The first axis over every device."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def state(mesh: Mesh, shapes: Any, rules: Rules = ()) -> Any:
  """Shardings of a state or of parameters.

  Args:
    mesh: of the devices.
    shapes: arrays or `jax.ShapeDtypeStruct`s.
    rules: that come before `RULES`, `config.mesh.rules`. A pattern is searched in the
      path, 'params/backbone/head/kernel', so that one for a parameter is one for its
      averages and moments, too.

  Raises:
    UserError: a rule is none, or names an axis that an array lacks or that `fsdp` does
      not divide.
  """
  fsdp = mesh.shape["fsdp"]
  compiled = [(_pattern(rule), rule[1]) for rule in [*rules, *RULES]]

  def place(path, leaf):
    spec: list[str | None] = [None] * len(leaf.shape)
    if fsdp == 1:
      return NamedSharding(mesh, PartitionSpec(*spec))
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    found = next(how for pattern, how in compiled if pattern.search(name))
    axis = _axis(name, leaf.shape, found, fsdp)
    if axis is not None:
      spec[axis] = "fsdp"
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree_util.tree_map_with_path(place, shapes)


def check_rules(rules: Rules, shapes: Any) -> None:
  """Raises UserError if a rule is none, or one for no array of a state."""
  leaves = jax.tree_util.tree_leaves_with_path(shapes)
  names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
  for rule in rules:
    if not any(map(_pattern(rule).search, names)):
      longest = max(names, key=len)
      raise UserError(
        f"config.mesh.rules: {rule[0]!r} is found in no path of the state; expected a "
        f"pattern of such as {longest!r}"
      )


def _pattern(rule: Any) -> re.Pattern[str]:
  """The compiled pattern of a rule; UserError if it is none."""
  what = (
    "config.mesh.rules: expected pairs of a regular expression and 'longest', 'whole' "
    f"or the number of an axis; found {rule!r}"
  )
  if not isinstance(rule, list | tuple) or len(rule) != 2:
    raise UserError(what)
  pattern, how = rule
  number = isinstance(how, int) and not isinstance(how, bool)
  if not isinstance(pattern, str) or not (number or how in ("longest", "whole")):
    raise UserError(what)
  try:
    return re.compile(pattern)
  except re.error as error:
    raise UserError(f"{what} ({error})") from error


def _axis(name: str, shape: Sequence[int], how: str | int, parts: int) -> int | None:
  """The axis along which an array is split; None for not at all."""
  if how == "longest":
    fitting = [i for i, n in enumerate(shape) if n % parts == 0]
    if np.prod(shape) < _MIN_SHARDED or not fitting:
      return None
    return max(fitting, key=lambda i: shape[i])
  if how == "whole":
    return None
  if not -len(shape) <= how < len(shape) or shape[how] % parts:
    raise UserError(
      f"config.mesh.rules: axis {how} of {name!r} cannot be split over fsdp={parts}; "
      f"its shape is {list(shape)}"
    )
  return how


def global_batch(mesh: Mesh, local):
  """Makes one sharded batch of the rows that each process read."""
  sharding = batch(mesh)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)),
    local,
  )
