"""`vdm-jax export --workdir=RUN --out=OUT`: averaged weights and config alone.

vdm-jax export --workdir=RUN --out=DIR
vdm-jax export --workdir=RUN --out=FILE.safetensors --format=safetensors

Both are then a --workdir to sample, to measure and to start training from.
"""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Run or export whose weights to write.")
_OUT = flags.DEFINE_string("out", None, "New folder, or new file, for the export.")
_FORMAT = flags.DEFINE_enum(
  "format",
  "workdir",
  ["workdir", "safetensors"],
  "'workdir' is a slim folder; 'safetensors' is one file that holds the config, too.",
)
_RATE = flags.DEFINE_string(
  "ema", None, "Rate of the average to write; default the config's first."
)
_BEST = flags.DEFINE_bool(
  "best", False, "Write the checkpoint of the best validation loss."
)


def main(argv: list[str]) -> None:
  """Writes the export and prints where it is."""
  if len(argv) > 1 or not _WORKDIR.value or not _OUT.value:
    raise UserError("export: expected --workdir=RUN --out=OUT")
  common.start_jax()

  from vdm_jax.storage import exports

  write = {"workdir": exports.folder, "safetensors": exports.file}[_FORMAT.value]
  write(_WORKDIR.value, _OUT.value, rate=_RATE.value, best=_BEST.value)
  print(f"exported to {_OUT.value}; vdm-jax sample --workdir={_OUT.value} loads it")
