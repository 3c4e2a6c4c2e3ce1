"""`vdm-jax eval --protocol=NAME --out=DIR [settings of the protocol]`.

vdm-jax eval --protocol=fvd --a=DIR --b=DIR2 --out=OUT
vdm-jax eval --protocol=forecast --workdir=RUN --members=8 --out=DIR
vdm-jax eval --protocol=position --workdir=REGRESSOR --out=DIR
vdm-jax eval --protocol=walk --samples=DIR --regressor=REGRESSOR --out=DIR2

Writes results.json, table.txt and plots; the settings are written beside the numbers.
"""

import dataclasses

from absl import flags

from vdm_jax import processes
from vdm_jax.cli import distributed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol as protocol_lib
from vdm_jax.evaluation import protocols

_PROTOCOL = flags.DEFINE_string(
  "protocol", None, f"Protocol to measure by: {', '.join(sorted(protocols.known()))}."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.")


def _define_settings() -> dict[str, flags.FlagHolder]:
  """Defines a flag for every setting of every protocol, which says which apply."""
  helps: dict[str, list[str]] = {}
  kinds = {}
  for name, protocol in protocols.known().items():
    for field in dataclasses.fields(protocol):
      default = f" (default {field.default})" if field.default not in ("", ()) else ""
      text = f"{name}: {field.metadata['help']}{default}."
      helps.setdefault(field.name, []).append(text)
      kinds[field.name] = type(field.default)
  define = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
    tuple: flags.DEFINE_multi_string,
  }
  return {
    name: define[kinds[name]](name, None, " ".join(texts))
    for name, texts in helps.items()
  }


_SETTINGS = _define_settings()


def main(argv: list[str]) -> None:
  """Measures; prints the table and the path of the results."""
  if len(argv) > 1:
    raise UserError(f"eval takes flags only, found {argv[1]!r}")
  if not _PROTOCOL.value:
    known = ", ".join(sorted(protocols.known()))
    raise UserError(f"eval: expected --protocol=NAME, one of {known}")
  settings = {
    name: tuple(flag.value) if isinstance(flag.value, list) else flag.value
    for name, flag in _SETTINGS.items()
    if flag.value is not None
  }
  protocol = protocols.build(_PROTOCOL.value, settings)
  if not _OUT.value:
    raise UserError("eval: expected --out=DIR")
  distributed.start(distributed.again, programs=getattr(protocol, "workdir", ""))
  distributed.check_same_command(_OUT.value)
  outcome = protocol_lib.evaluate(protocol, _OUT.value)
  if processes.is_first():
    print(f"{outcome.table}\n\nin {_OUT.value}")
