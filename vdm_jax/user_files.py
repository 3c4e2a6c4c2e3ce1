"""Locations of files outside the library: the user's cache, data inside packages."""

import hashlib
import importlib.util
import os
import pathlib

from vdm_jax.errors import UserError


def cache(*names: str) -> pathlib.Path:
  """Returns a path below `vdm_jax` in the user's cache; it may not exist yet."""
  root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  return pathlib.Path(root, "vdm_jax", *names)


def in_package(module: str, file: str) -> pathlib.Path | None:
  """Finds a file inside an installed package, without importing it.

  Args:
    module: name of the package's folder.
    file: path of the file in that folder.

  Returns:
    The file's path; None if there is no such package, or no such file in it.
  """
  spec = importlib.util.find_spec(module)
  for place in (spec.submodule_search_locations or ()) if spec else ():
    path = pathlib.Path(place, file)
    if path.is_file():
      return path
  return None


def read_checked(path: pathlib.Path, sha256: str, requirement: str) -> bytes:
  """Reads a package's file and verifies its checksum.

  Raises:
    UserError: the checksum differs.
  """
  data = path.read_bytes()
  digest = hashlib.sha256(data).hexdigest()
  if digest != sha256:
    raise UserError(
      f"{path}: expected the file of {requirement} with SHA-256 {sha256}, found "
      f"{digest}; install the package again"
    )
  return data
