"""`vdm-jax preflight --config=FILE [--topology=v5e:2x4 | --local]`: does a config fit?

Compiles the real training step (or sampler) for a TPU slice without a TPU, or for GPUs
(`--topology=h100:8`) without a GPU, and reports what it needs. Figures are per chip;
`--json` prints only them, in bytes, FLOPs and milliseconds. If it does not fit, that is
a result (exit 0), too, with settings that would help.
"""

import json
import sys

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config()
_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "Slice to compile for, for example v4:4x4x8, v5e:2x4, v5p:2x2x2, v6e:4x4, "
  "tpu7x:2x2x1; or GPUs: h100:8, h200:8, a100:8, a100-40gb:8, h100:2x8 (two hosts); "
  "default the config's preflight.topology.",
)
_LOCAL = flags.DEFINE_bool("local", False, "Compile for the devices at hand instead.")
_WHAT = flags.DEFINE_string(
  "what",
  "train",
  "Step to compile: 'train', 'sample', or 'enlarge', sampling guided by a small video.",
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 16, "Number of videos to sample at a time.", lower_bound=1
)
_EFFORT = flags.DEFINE_enum(
  "effort",
  None,
  ["O0", "O1", "O2", "O3"],
  "Effort of the compiler; default O0 for a topology: quick, close in memory, but with "
  "estimates several times too long. With --local the compiler's own default.",
)
_TRY_KNOBS = flags.DEFINE_bool(
  "try_knobs",
  True,
  "Whether to compile with settings that may help if it does not fit.",
)
_JSON = common.define_json()


def main(argv: list[str]) -> None:
  """Prints a table or JSON; exits 1 only if the compiler itself failed."""
  if len(argv) > 1:
    raise UserError(f"preflight takes flags only, found {argv[1]!r}")
  if _LOCAL.value and _TOPOLOGY.value:
    raise UserError("preflight: expected --topology or --local, found both")
  config = common.config_dict(_CONFIG)
  topology = None
  if _LOCAL.value:
    common.start_jax()
  else:
    topology = _TOPOLOGY.value or config.get("preflight", {}).get("topology")
    if not topology:
      raise UserError("preflight: expected --topology=GENERATION:CHIPS or --local")

  from vdm_jax import preflight

  found = preflight.preflight(
    config,
    topology,
    what=_WHAT.value,
    batch_size=_BATCH_SIZE.value,
    effort=_EFFORT.value,
    try_knobs=_TRY_KNOBS.value,
  )
  print(json.dumps(found, indent=2) if _JSON.value else preflight.render(found))
  if found["fits"] is None:
    sys.exit(1)
