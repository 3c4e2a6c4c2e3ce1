"""Conversion between PyTorch state dicts and trees of Flax parameters, by a table.

A format is a list of entries, each of which maps a key to a parameter with a layout.
Conversion either way, and the lists of missing, unexpected and misshaped keys, follow
from it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

Shape = tuple[int, ...]


class Layout(NamedTuple):
  """The layouts of an array on both sides; the functions never depend on its values.

  Attributes:
    to_flax: maps the array of the state dict to ours.
    to_torch: inverse of `to_flax`.
  """

  to_flax: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray], np.ndarray]


# Biases, scales, embeddings, which are the same on both sides.
KEEP = Layout(lambda a: a, lambda a: a)
# Linear: [out, in] to [in, out].
LINEAR = Layout(lambda a: a.T, lambda a: a.T)
# Convolution of any rank: [out, in, *kernel] to [*kernel, in, out].
CONV = Layout(
  lambda a: np.moveaxis(a, (0, 1), (-1, -2)), lambda a: np.moveaxis(a, (-1, -2), (0, 1))
)


def pointwise(rank: int) -> Layout:
  """Makes the layout of 1-wide convolutions over `rank` axes, which are Dense here."""
  ones = (1,) * rank
  return Layout(
    lambda a: a.reshape(a.shape[:2]).T, lambda a: a.T.reshape(*a.T.shape, *ones)
  )


class Entry(NamedTuple):
  """One array of a checkpoint.

  Attributes:
    key: key in the state dict.
    path: path of the Flax parameter, like 'down_0_0/conv_0/kernel'.
    layout: layouts of the two.
  """

  key: str
  path: str
  layout: Layout = KEEP


class Comparison(NamedTuple):
  """The differences between a state dict and a model.

  Attributes:
    missing: keys that the model needs and the file lacks.
    unexpected: keys of the file that the model lacks.
    misshaped: 'KEY: expected SHAPE, found SHAPE', in the file's layout.
  """

  missing: list[str]
  unexpected: list[str]
  misshaped: list[str]

  def __bool__(self) -> bool:
    """Returns whether there is any difference."""
    return any(self)


def compare(
  entries: Iterable[Entry], shapes: Mapping[str, Shape], params: Any
) -> Comparison:
  """Compares names and shapes, without reading values.

  Args:
    entries: entries of the format.
    shapes: shapes of the state dict, by key.
    params: tree of arrays or `jax.ShapeDtypeStruct`s, with exactly the parameters
      that the entries name.

  Raises:
    ValueError: entries and parameters do not match one to one, which is a mistake of
      the format, not of the file.
  """
  entries = list(entries)
  wanted = state_shapes(entries, params)
  missing = [key for key in wanted if key not in shapes]
  unexpected = [key for key in shapes if key not in wanted]
  misshaped = [
    f"{key}: expected {shape}, found {tuple(shapes[key])}"
    for key, shape in wanted.items()
    if key in shapes and tuple(shapes[key]) != shape
  ]
  return Comparison(missing, unexpected, misshaped)


def state_shapes(entries: Iterable[Entry], params: Any) -> dict[str, Shape]:
  """Computes the shapes, by key, of a state dict of this model; see `compare`."""
  flat = traverse_util.flatten_dict(params, sep="/")
  entries = list(entries)
  paths = [entry.path for entry in entries]
  if sorted(paths) != sorted(flat):
    odd = sorted(set(paths) ^ set(flat)) or sorted(paths)
    raise ValueError(f"format and parameters differ: {odd[:5]}")
  if len({entry.key for entry in entries}) < len(entries):
    raise ValueError("format has a key twice")
  # Arrays with zero strides take no memory.
  return {
    entry.key: entry.layout.to_torch(
      np.broadcast_to(np.float32(0), flat[entry.path].shape)
    ).shape
    for entry in entries
  }


def to_params(entries: Iterable[Entry], state: Mapping[str, np.ndarray]) -> Any:
  """Converts the arrays of a state dict to float32 Flax parameters."""
  flat = {
    entry.path: np.ascontiguousarray(
      entry.layout.to_flax(np.asarray(state[entry.key], np.float32))
    )
    for entry in entries
  }
  return traverse_util.unflatten_dict(flat, sep="/")


def to_state(entries: Iterable[Entry], params: Any) -> dict[str, np.ndarray]:
  """Converts our parameters (or gradients) to a state dict in the file's layout."""
  flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
  return {
    entry.key: np.ascontiguousarray(entry.layout.to_torch(np.asarray(flat[entry.path])))
    for entry in entries
  }
