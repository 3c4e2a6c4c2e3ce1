"""`vdm-jax import --system=NAME FILE.pt --out=DIR`: turn published weights into a run.

Prints where each config field came from and which keys and shapes do not fit; writes
nothing unless all do. No code of the file is run. `vdm-jax sample --workdir=DIR` and
`vdm-jax train --config=DIR/config.py --init_from=DIR` then use it.
"""

import pathlib
import shlex

from absl import flags

from vdm_jax import key_values
from vdm_jax.cli import common
from vdm_jax.errors import UserError

_SYSTEM = flags.DEFINE_string("system", None, "System of the file: fdm, ramvid or rvd.")
_OUT = flags.DEFINE_string("out", None, "New local folder for the workdir.")
_DRY_RUN = flags.DEFINE_bool(
  "dry_run", False, "Only report, by names and shapes; write nothing."
)
_DATASET = flags.DEFINE_string(
  "dataset", None, "Preset of the authors, for fields that the file does not determine."
)
_RAW = flags.DEFINE_bool(
  "raw", False, "Take the raw parameters of a file that has averages, too."
)
_SET = flags.DEFINE_multi_string(
  "set", [], "Config field as KEY=VALUE, such as model.num_heads=8; may be repeated."
)


def main(argv: list[str]) -> None:
  """Reports, and writes unless it is a dry run."""
  if len(argv) != 2 or not _SYSTEM.value:
    raise UserError("import: expected --system=NAME FILE.pt --out=DIR (or --dry_run)")
  if not _DRY_RUN.value and not _OUT.value:
    raise UserError("import: expected --out=DIR, or --dry_run to look only")
  common.start_jax()

  from vdm_jax.interop import formats, torch_file, workdir

  formats.load(_SYSTEM.value)
  if _OUT.value:
    workdir.check_free(_OUT.value)
  path = argv[1]
  file = formats.File(
    name=pathlib.Path(path).name,
    contents=torch_file.read(path, shapes_only=_DRY_RUN.value),
    dataset=_DATASET.value,
    raw=_RAW.value,
  )
  examined = workdir.examine(_SYSTEM.value, file, key_values.parse(_SET.value, "set"))
  print(workdir.report(examined))
  workdir.check_fits(examined)
  if _DRY_RUN.value:
    print("dry run: nothing written")
    return
  workdir.write(examined, _OUT.value)
  out = shlex.quote(_OUT.value)
  given = " --given=CLIP --num_obs=4" if _SYSTEM.value == "rvd" else ""
  print(
    f"written to {out}\n"
    f"  vdm-jax sample --workdir={out}{given} --out=SAMPLES\n"
    f"  vdm-jax train --config={out}/config.py --init_from={out} --workdir=NEW "
    "--config.data.name=YOUR_DATA"
  )
