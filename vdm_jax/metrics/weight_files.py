"""Reads files of weights, of any kind that metric networks are published in.

A file is PyTorch's or TorchScript's, .npz, .safetensors or a pickle of arrays. No code
of it is run.
"""

import io
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from vdm_jax import errors
from vdm_jax.errors import UserError
from vdm_jax.interop import torch_file, torchscript


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a file by name.

  Raises:
    UserError: the file cannot be read, or holds more than arrays.
  """
  if path.suffix in (".pt", ".pth"):
    if torchscript.is_one(path):
      return torchscript.read(path)
    contents = torch_file.read(str(path))
    if isinstance(contents, Mapping) and "state_dict" in contents:
      contents = contents["state_dict"]
    if not isinstance(contents, Mapping):
      raise UserError(
        f"{path}: expected arrays by name, found {type(contents).__name__}"
      )
    return {k: np.asarray(v) for k, v in contents.items() if hasattr(v, "shape")}
  try:
    if path.suffix == ".npz":
      with np.load(path, allow_pickle=False) as archive:
        return dict(archive)
    if path.suffix == ".safetensors":
      return safetensors.numpy.load_file(path)
  except Exception as error:  # The readers may raise anything.
    reason = errors.reason(error)
    raise UserError(f"{path}: cannot be read ({reason})") from error
  return read_pickle(path.read_bytes(), str(path))


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
  """Flattens nested dicts, with names joined by slashes."""
  flat = {}
  for key, value in params.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{key}/")
    else:
      flat[f"{prefix}{key}"] = np.asarray(value)
  return flat


def nest(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Undoes `flatten`."""
  nested: dict[str, Any] = {}
  for key, value in flat.items():
    *path, last = key.split("/")
    inner = nested
    for part in path:
      inner = inner.setdefault(part, {})
    inner[last] = value
  return nested


# The globals that a pickle of arrays needs, under NumPy's old and new names.
_ALLOWED = {
  (module, name)
  for module, name in (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
  )
}


class _Arrays(pickle.Unpickler):
  """An unpickler of arrays, containers and plain values that refuses all else."""

  def __init__(self, file, name: str):
    super().__init__(file)
    self._name = name

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise UserError(
        f"{self._name}: refused: it asks for {module}.{name}, where weights hold "
        "arrays alone; nothing of it was run"
      )
    return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(data: bytes, name: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a pickle, flat, without running any of its code.

  Raises:
    UserError: it is not a pickle of arrays, needs anything else, or is damaged.
  """
  try:
    contents = _Arrays(io.BytesIO(data), name).load()
  except UserError:
    raise
  except Exception as error:  # A damaged pickle may raise anything.
    reason = errors.reason(error)
    raise UserError(
      f"{name}: not a pickle of arrays, or a damaged one ({reason})"
    ) from error
  if not isinstance(contents, Mapping):
    raise UserError(f"{name}: expected arrays by name, found {type(contents).__name__}")
  return flatten(contents)
