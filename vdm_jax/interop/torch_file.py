"""Reads and writes files of `torch.save`, without running any code in them.

This is the only module that reads or writes PyTorch's files. A checkpoint is a pickle,
and a pickle is a program: PyTorch's restricted reader (`weights_only`) builds arrays,
containers and plain values, and refuses everything else. Arrays stay on disk until they
are used.
"""

import contextlib
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from vdm_jax import atomic, errors
from vdm_jax.errors import UserError


class Tensor:
  """An array of a file, read when `np.asarray` is called on it."""

  def __init__(self, tensor: Any):
    self._tensor = tensor.detach()

  @property
  def shape(self) -> tuple[int, ...]:
    return tuple(self._tensor.shape)

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    tensor = self._tensor
    # NumPy has no bfloat16, and nothing here needs half precision.
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return np.asarray(tensor.numpy(), dtype)

  def __repr__(self) -> str:
    return f"Tensor{self.shape}"


def read(path: str, shapes_only: bool = False) -> Any:
  """Reads the contents of a checkpoint, for `formats.File`.

  Args:
    path: path of a local file.
    shapes_only: whether to read only names and shapes, after which no array can be
      read.

  Returns:
    Dicts, lists, tuples and plain values, with a `Tensor` for every array.

  Raises:
    UserError: there is no such file, it is not a checkpoint or a damaged one, it asks
      for code to be run, or PyTorch is not installed.
  """
  torch = _torch()
  found = pathlib.Path(path)
  if not found.is_file():
    what = "is a folder" if found.is_dir() else "no such file"
    raise UserError(f"{path}: {what}; expected a local PyTorch checkpoint (.pt)")
  # Files of PyTorch 1.6 and later are zip archives, which can be mapped.
  with found.open("rb") as file:
    mapped = file.read(4) == b"PK\x03\x04"
  try:
    contents = torch.load(
      found,
      map_location="meta" if shapes_only else "cpu",
      weights_only=True,
      mmap=mapped,
    )
  except pickle.UnpicklingError as error:
    raise _refused(path, error, torch) from error
  except Exception as error:  # PyTorch's readers may raise anything.
    raise UserError(
      f"{path}: not a PyTorch checkpoint, or a truncated or damaged one "
      f"({_short(error)})"
    ) from error
  return _plain(contents, torch)


def write(path: pathlib.Path, contents: Any) -> None:
  """Writes a file that any PyTorch reads, even its restricted reader.

  An existing file is replaced; a failure leaves no incomplete one.

  Args:
    path: local path, whose folder is created.
    contents: nested mappings, sequences and plain values; arrays become tensors.

  Raises:
    UserError: PyTorch is not installed, or the file cannot be written.
  """
  torch = _torch()
  try:
    with atomic.aside(path) as part:
      torch.save(_tensors(contents, torch), part)
  except (OSError, RuntimeError) as error:  # PyTorch's writer raises the latter.
    raise UserError(f"{path}: cannot be written ({_short(error)})") from error


def check_installed() -> None:
  """Raises UserError unless PyTorch is installed."""
  _torch()


def _torch() -> Any:
  try:
    import torch
  except ImportError:
    raise UserError(
      "PyTorch checkpoints need PyTorch: pip install 'vdm_jax[torch]'"
    ) from None
  return torch


def _refused(path: str, error: Exception, torch: Any) -> UserError:
  """Makes the error for a pickle that the restricted reader refused."""
  names = []
  # An old or broken archive allows no more details.
  with contextlib.suppress(Exception):
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
  text = str(error)
  if names or "GLOBAL" in text or "global" in text:
    asks = f" ({', '.join(sorted(names)[:3])})" if names else ""
    return UserError(
      f"{path}: refused: it asks for code to be run{asks}, where a checkpoint holds "
      "arrays and plain values alone; nothing of it was run"
    )
  return UserError(f"{path}: not a PyTorch checkpoint, or a damaged one")


def _short(error: Exception) -> str:
  """Returns an error's first sentence, on one line."""
  return errors.reason(error).split(". ")[0]


def _plain(value: Any, torch: Any) -> Any:
  if isinstance(value, torch.Tensor):
    return Tensor(value)
  if isinstance(value, Mapping):
    return {key: _plain(inner, torch) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    inner = [_plain(item, torch) for item in value]
    return tuple(inner) if isinstance(value, tuple) else inner
  return value


def _tensors(value: Any, torch: Any) -> Any:
  """Inverts `_plain`; arrays are copied."""
  if isinstance(value, np.ndarray):
    return torch.tensor(value)
  if isinstance(value, Mapping):
    return {key: _tensors(inner, torch) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(_tensors(item, torch) for item in value)
  return value
