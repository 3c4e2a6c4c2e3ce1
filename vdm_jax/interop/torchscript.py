"""Reads the arrays of a TorchScript file (`torch.jit.save`), without PyTorch.

Such a file is a zip archive: a pickle of the module, its code as text, and the bytes of
each array. The pickle is read with placeholders for classes; the code is not read.
"""

import math
import pathlib
import pickle
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vdm_jax import errors
from vdm_jax.errors import UserError

_DTYPES = {
  "DoubleStorage": np.float64,
  "FloatStorage": np.float32,
  "HalfStorage": np.float16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}


def is_one(path: str | pathlib.Path) -> bool:
  """Returns whether a file is TorchScript's."""
  if not zipfile.is_zipfile(path):
    return False
  with zipfile.ZipFile(path) as archive:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Reads parameters and buffers by name, as in `state_dict`.

  Raises:
    UserError: the file is damaged, or its pickle needs anything but modules, arrays and
      plain values.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      (root,) = {n.split("/")[0] for n in archive.namelist() if "/" in n}
      with archive.open(f"{root}/data.pkl") as file:
        module = _Reader(file, archive, root, str(path)).load()
  except UserError:
    raise
  except Exception as error:  # A damaged pickle may raise anything.
    reason = errors.reason(error)
    raise UserError(f"{path}: a damaged TorchScript file ({reason})") from error
  return dict(_arrays(module, ""))


class _Module:
  """The placeholder of a module, which holds its attributes."""

  attributes: Any = None

  def __setstate__(self, state: Any) -> None:
    self.attributes = state


class _Storage(NamedTuple):
  """The name of a storage's type, a key of `_DTYPES`."""

  kind: str


def _plain(*values: Any) -> tuple[Any, ...]:
  """Replaces TorchScript's functions that make typed lists."""
  return values


class _Reader(pickle.Unpickler):
  """An unpickler of modules without code, arrays and plain values; refuses all else."""

  def __init__(self, file, archive: zipfile.ZipFile, root: str, path: str):
    super().__init__(file)
    self._archive, self._root, self._path = archive, root, path

  def find_class(self, module: str, name: str) -> Any:
    if module.split(".")[0] == "__torch__":
      return _Module
    if (module, name) == ("collections", "OrderedDict"):
      return dict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return _tensor
    if module == "torch.jit._pickle":
      return _plain
    if module == "torch" and name in _DTYPES:
      return _Storage(name)
    raise UserError(
      f"{self._path}: refused: it asks for {module}.{name}, where TorchScript has "
      "modules and arrays alone; nothing of it was run"
    )

  def persistent_load(self, pid: Any) -> np.ndarray:
    _, storage, key, _, size = pid
    data = self._archive.read(f"{self._root}/data/{key}")
    return np.frombuffer(data, _DTYPES[storage.kind], count=size)


def _tensor(storage, offset, shape, strides, *_) -> np.ndarray:
  """Makes an array from a storage; strides are in elements."""
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  inside = 0 <= offset <= last < len(storage) and min(strides, default=0) >= 0
  if math.prod(shape) and not inside:
    raise ValueError(f"an array of {tuple(shape)} in {len(storage)} values")
  strides = [storage.itemsize * s for s in strides]
  view = np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)
  return np.ascontiguousarray(view).reshape(shape)


def _arrays(value: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
  if isinstance(value, _Module):
    value = value.attributes
  if isinstance(value, np.ndarray):
    yield name, value
  elif isinstance(value, dict):
    for key, inner in value.items():
      yield from _arrays(inner, f"{name}.{key}" if name else str(key))
