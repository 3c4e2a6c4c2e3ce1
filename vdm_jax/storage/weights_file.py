"""A file that holds a whole model: its weights and their metadata.

It is a safetensors file, so that any tool can read the arrays and no code is run.
Arrays are named by their Flax paths ('backbone/stem/kernel'). Every value of the
metadata is JSON: the config, the step, the rate of the average, versions, and a
checksum of everything.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath
from flax import traverse_util

from vdm_jax import atomic, errors
from vdm_jax.errors import UserError

SUFFIX = ".safetensors"
FORMAT = 1
# Metadata that every file must have.
_NEEDED = ("file_format", "checksum", "config", "step", "ema", "vdm_jax")


def is_one(path: epath.PathLike) -> bool:
  """Returns whether a path is that of such a file, by its name."""
  return str(path).endswith(SUFFIX) and not epath.Path(path).is_dir()


def check_free(path: epath.PathLike) -> None:
  """Checks that a new file can be written to this path.

  Raises:
    UserError: the path ends differently, or exists already.
  """
  if not str(path).endswith(SUFFIX):
    raise UserError(f"{path}: expected the name of a new file that ends with {SUFFIX}")
  if epath.Path(path).exists():
    raise UserError(f"{path}: there already; nothing is written over")


def write(path: epath.PathLike, params: Any, meta: Mapping[str, Any]) -> None:
  """Writes a file, all or nothing.

  Args:
    path: path, local or in a bucket.
    params: nested dicts of arrays.
    meta: 'config', 'step', 'ema', 'vdm_jax' and other JSON-serialisable values.

  Raises:
    UserError: the path is taken, or the file cannot be written.
  """
  check_free(path)
  target = epath.Path(path)
  arrays = {
    name: np.ascontiguousarray(array)
    for name, array in traverse_util.flatten_dict(
      jax.device_get(params), sep="/"
    ).items()
  }
  texts = {k: json.dumps(v) for k, v in {"file_format": FORMAT, **meta}.items()}
  texts["checksum"] = json.dumps(_checksum(arrays, texts))
  try:
    if "://" in str(path):  # Buckets show only complete objects.
      target.write_bytes(safetensors.numpy.save(arrays, texts))
      return
    with atomic.aside(target) as part:
      # safetensors makes files that only their owner can read; this one is for sharing.
      part.touch()
      mode = os.stat(part).st_mode
      safetensors.numpy.save_file(arrays, os.fspath(part), texts)
      os.chmod(part, mode)
  except (OSError, safetensors.SafetensorError) as error:
    raise UserError(f"{path}: cannot be written ({errors.reason(error)})") from error


def read(path: epath.PathLike) -> tuple[Any, dict[str, Any]]:
  """Reads a file.

  Args:
    path: path, local or in a bucket.

  Returns:
    (params, meta): nested dicts of arrays in the host's memory, and the metadata given
    to `write`.

  Raises:
    UserError: there is no such file, it is damaged, or it was not made by `write`.
  """
  if not epath.Path(path).exists():
    raise UserError(f"{path}: no such file")
  try:
    with (
      _local(path) as local,
      safetensors.safe_open(local, framework="numpy") as file,
    ):
      texts = dict(file.metadata() or {})
      missing = [key for key in _NEEDED if key not in texts]
      if missing:
        raise UserError(
          f"{path}: not a model of vdm_jax's: expected metadata {', '.join(_NEEDED)}, "
          f"found no {', '.join(missing)}"
        )
      arrays = {name: file.get_tensor(name) for name in file.keys()}
    meta = {key: json.loads(text) for key, text in texts.items()}
  except (OSError, safetensors.SafetensorError, json.JSONDecodeError) as error:
    raise UserError(
      f"{path}: not a safetensors file, or a truncated or damaged one "
      f"({errors.reason(error)})"
    ) from error
  version, checksum = meta.pop("file_format"), meta.pop("checksum")
  if version != FORMAT:
    raise UserError(
      f"{path}: format {version!r} of such files, this vdm_jax reads {FORMAT}: update "
      "it"
    )
  del texts["checksum"]
  if checksum != _checksum(arrays, texts):
    raise UserError(f"{path}: damaged: its arrays or metadata are not those written")
  return traverse_util.unflatten_dict(arrays, sep="/"), meta


@contextlib.contextmanager
def _local(path: epath.PathLike) -> Iterator[str]:
  """Yields a local path of the file, its own or that of a copy."""
  if "://" not in str(path):
    yield os.fspath(path)
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = epath.Path(folder) / epath.Path(path).name
    epath.Path(path).copy(copy)
    yield os.fspath(copy)


def _checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
  """Computes a checksum of everything in a file, in any order."""
  total = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
  for name, array in sorted(arrays.items()):
    total.update(f"{name} {array.dtype} {array.shape}\n".encode())
    total.update(np.ascontiguousarray(array).data)
  return total.hexdigest()
