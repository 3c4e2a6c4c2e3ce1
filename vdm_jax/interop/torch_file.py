"""Reads a file of `torch.save` without running anything that is in it.

The only module that knows PyTorch. A checkpoint is a pickle, and a pickle is a
program: PyTorch's restricted reader (`weights_only`) builds arrays, containers and
plain values, and refuses all else. Arrays stay on disk until they are asked for.
"""

import contextlib
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

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
    # NumPy has no bfloat16, and half precision is of no use to anyone here.
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return np.asarray(tensor.numpy(), dtype)

  def __repr__(self) -> str:
    return f"Tensor{self.shape}"


def read(path: str, shapes_only: bool = False) -> Any:
  """The contents of a checkpoint, for `formats.File`.

  Args:
    path: of the file, local.
    shapes_only: names and shapes alone; no array can be read afterwards.

  Returns:
    Dicts, lists, tuples and plain values, with a `Tensor` for every array.

  Raises:
    UserError: there is no such file, it is no checkpoint or a damaged one, it asks
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
  except Exception as error:  # Its readers raise whatever they stumble over.
    raise UserError(
      f"{path}: not a PyTorch checkpoint, or a truncated or damaged one "
      f"({_short(error)})"
    ) from error
  return _plain(contents, torch)


def _torch() -> Any:
  try:
    import torch
  except ImportError:
    raise UserError(
      "reading PyTorch checkpoints needs PyTorch: pip install 'vdm_jax[torch]'"
    ) from None
  return torch


def _refused(path: str, error: Exception, torch: Any) -> UserError:
  """The error for a pickle that the restricted reader did not take."""
  names = []
  # Where the archive is old or broken there is less to say.
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
  """An error's first sentence, on one line."""
  return " ".join(str(error).split()).split(". ")[0][:160] or type(error).__name__


def _plain(value: Any, torch: Any) -> Any:
  if isinstance(value, torch.Tensor):
    return Tensor(value)
  if isinstance(value, Mapping):
    return {key: _plain(inner, torch) for key, inner in value.items()}
  if isinstance(value, list | tuple):
    inner = [_plain(item, torch) for item in value]
    return tuple(inner) if isinstance(value, tuple) else inner
  return value
