"""`vdm-jax export --workdir=DIR --out=DIR2`: averaged weights and config alone."""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_OUT = flags.DEFINE_string("out", None, "New folder for the export.")
_RATE = flags.DEFINE_string("ema", None, "Which average; default the config's first.")
_BEST = flags.DEFINE_bool("best", False, "The checkpoint of the best validation loss.")


def main(argv: list[str]) -> None:
  """Writes the export and prints where it is."""
  if len(argv) > 1 or not _WORKDIR.value or not _OUT.value:
    raise UserError("export: expected --workdir=DIR --out=DIR2")
  common.start_jax()

  from vdm_jax.storage import workdirs

  workdirs.export(_WORKDIR.value, _OUT.value, rate=_RATE.value, best=_BEST.value)
  print(f"exported to {_OUT.value}; vdm-jax sample --workdir={_OUT.value} loads it")
