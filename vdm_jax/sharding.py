"""The device mesh, and how arrays are sharded over it.

The mesh has two axes: the batch is split over both, parameters and optimizer state
over `fsdp` alone. A single device is a 1 x 1 mesh, with no code of its own.
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
# Smaller arrays are replicated: gathering them would cost more than it saves.
_MIN_SHARDED = 1 << 16
# The first pattern found in the path of an array decides its sharding over `fsdp`:
# along the 'longest' divisible axis (small arrays are replicated), along the axis with
# the given number, or 'whole' for replicated.
Rules = Sequence[tuple[str, str | int]]
RULES: Rules = ((".*", "longest"),)
# When a training step gathers split weights (`config.mesh.gather`): once, or at use.
GATHER = ("step", "use")
# The TPU compiler's windowed einsums pass weights around the chips piece by piece while
# they multiply, and read and write the whole result for each piece: more traffic and
# more memory than a gather. This threshold, in MiB, is one that no kernel reaches.
_TPU_OPTIONS = {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"}


def make_mesh(
  data: int = -1, fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Makes a (data, fsdp) mesh; -1 takes all remaining devices.

  Raises:
    UserError: an axis has no devices, or their product is not the number of devices.
  """
  devices = list(jax.devices() if devices is None else devices)
  shape = {"data": data, "fsdp": fsdp}
  for axis, size in shape.items():
    if size < 1 and size != -1:
      raise UserError(
        f"`mesh.{axis}={size}`: expected >= 1, or -1 for all remaining devices"
      )
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
  """Arranges devices along the links of a TPU slice, as far as JAX knows them."""
  if devices[0].platform == "tpu":
    try:
      return mesh_utils.create_device_mesh(
        shape, devices, allow_split_physical_axes=True
      )
    except (AssertionError, NotImplementedError, ValueError):
      pass  # Part of a slice, or several slices: keep the order of the processes.
  return np.array(devices).reshape(shape)


def of_config(
  config: Mapping[str, Any], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Makes the mesh that `config.mesh` describes; raises as `make_mesh` does."""
  return make_mesh(config["data"], config["fsdp"], devices)


def gathers_once(config: Mapping[str, Any], mesh: Mesh) -> bool:
  """Returns whether a step gathers its weights before its first micro-batch.

  Args:
    config: the section `config.mesh`.
    mesh: the mesh made from it.

  Raises:
    UserError: `config.gather` is not in `GATHER`.
  """
  # Configs of older runs lack the field.
  gather = config.get("gather", "step")
  if gather not in GATHER:
    raise errors.unknown("config.mesh.gather", gather, GATHER)
  return gather == "step" and mesh.shape["fsdp"] > 1


def compiler_options(mesh: Mesh) -> dict[str, str] | None:
  """Returns compiler options for programs whose weights may be split over the mesh."""
  tpu = mesh.devices.flat[0].platform == "tpu"
  return dict(_TPU_OPTIONS) if tpu and mesh.shape["fsdp"] > 1 else None


def rules_of(config: Mapping[str, Any]) -> Rules:
  """Returns `config.mesh.rules` of a complete config; configs of older runs lack it."""
  return config.get("mesh", {}).get("rules", ())


def for_sampling(config: Mapping[str, Any], devices: Sequence[jax.Device]) -> Mesh:
  """Makes a mesh of some devices that splits weights as in training, if it can."""
  fsdp = config.get("mesh", {}).get("fsdp", 1)
  fsdp = len(devices) if fsdp == -1 else math.gcd(fsdp, len(devices))
  return make_mesh(fsdp=fsdp, devices=devices)


def jit(function: Callable, mesh: Mesh, **kwargs):
  """Compiles a function as `jax.jit` does, and lets its parts ask for the mesh.

  Kernels, which the compiler cannot split, are called on each device's part of the
  batch (`models.kernels.rows`). The compiler options of the mesh are set.
  """

  @functools.wraps(function)
  def on_mesh(*args, **kwargs):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*args, **kwargs)

  return jax.jit(on_mesh, compiler_options=compiler_options(mesh), **kwargs)


def batch(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis is split over all devices."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  return NamedSharding(mesh, PartitionSpec())


def state(mesh: Mesh, shapes: Any, rules: Rules = ()) -> Any:
  """Returns the shardings of a training state or of parameters.

  Args:
    mesh: mesh of the devices.
    shapes: tree of arrays or `jax.ShapeDtypeStruct`s.
    rules: rules that precede `RULES`, such as `config.mesh.rules`. A pattern is
      searched for in the path, like 'params/backbone/head/kernel', so that a rule for a
      parameter also holds for its averages and moments.

  Raises:
    UserError: a rule is malformed, or names an axis that an array lacks or that `fsdp`
      does not divide.
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
  """Raises UserError if a rule is malformed or matches no array of a state."""
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
  """Compiles the pattern of a rule; raises UserError if the rule is malformed."""
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
  """Finds the axis along which an array is split; None if it is replicated."""
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
  """Makes one sharded batch from the rows that each process has read."""
  sharding = batch(mesh)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)),
    local,
  )
