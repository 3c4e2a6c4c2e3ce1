"""`vdm-jax export --workdir=RUN --out=OUT`: write averaged weights and config.

vdm-jax export --workdir=RUN --out=DIR
vdm-jax export --workdir=RUN --out=FILE.safetensors --format=safetensors
vdm-jax export --workdir=RUN --out=DIR --format=pytorch

The first two can be the --workdir to sample, to measure and to start training from. The
third writes a PyTorch checkpoint for the code of the paper's authors (FDM, RaMViD, RVD)
into DIR, or names the fields that it does not support.
"""

import shlex

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Run or export whose weights are written."
)
_OUT = flags.DEFINE_string("out", None, "New folder, or new file, for the export.")
_FORMAT = flags.DEFINE_enum(
  "format",
  "workdir",
  ["workdir", "safetensors", "pytorch"],
  "'workdir' is a slim folder; 'safetensors' is one file that holds the config, too; "
  "'pytorch' is a checkpoint in the layout of the paper's authors.",
)
_EMA = flags.DEFINE_string(
  "ema", None, "Rate of the average to write; default the config's first."
)
_BEST = flags.DEFINE_bool("best", False, "Write the best checkpoint, by train.best_by.")


def main(argv: list[str]) -> None:
  """Writes the export and prints its path."""
  if len(argv) > 1 or not _WORKDIR.value or not _OUT.value:
    raise UserError("export: expected --workdir=RUN --out=OUT")
  common.start_jax()
  pick = {"ema": _EMA.value, "best": _BEST.value}
  if _FORMAT.value == "pytorch":
    _export_pytorch(pick)
    return

  from vdm_jax.storage import exports

  write = {"workdir": exports.folder, "safetensors": exports.file}[_FORMAT.value]
  write(_WORKDIR.value, _OUT.value, **pick)
  out = shlex.quote(_OUT.value)
  print(f"exported to {_OUT.value}; vdm-jax sample --workdir={out} loads it")


def _export_pytorch(pick) -> None:
  """Writes a checkpoint, and prints what the file does not contain."""
  from vdm_jax.interop import writing

  exported = writing.export(_WORKDIR.value, _OUT.value, **pick)
  print(f"exported to {exported.path}, as {exported.title}'s authors write theirs")
  if exported.options:
    print("their code builds the model with these options:")
    for name, value in exported.options.items():
      print(f"  {name} = {value!r}")
  if exported.lost:
    print("fields that their training lacks and an import loses:")
    for line in exported.lost:
      print(f"  {line}")
  print(f"to import it as the same model:\n  {exported.command}")
