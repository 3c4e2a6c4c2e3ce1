"""`vdm-jax cascade-demo --out=DIR [--seconds=N]`: VDM turns a caption into a video."""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_BASE = common.define_config("vdm_digits_cascade:stage=base", "base")
_UPPER = common.define_config("vdm_digits_cascade:stage=upper", "upper")
_OUT = flags.DEFINE_string("out", "runs/cascade_demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 640.0, "Total wall-clock seconds for training both models."
)
_PER_DIGIT = flags.DEFINE_integer(
  "per_digit",
  2,
  "Videos per digit with directions held out of training, and as many with others.",
  lower_bound=1,
  upper_bound=2,
)


def main(argv: list[str]) -> None:
  """Trains, samples and measures; prints the table and the paths of the figures."""
  if len(argv) > 1:
    raise UserError(f"cascade-demo takes flags only, found {argv[1]!r}")
  base, upper = common.config_dict(_BASE), common.config_dict(_UPPER)

  from vdm_jax.demo import cascade, timed

  timed.check_seconds(_SECONDS.value, min(cascade.BASE_SHARE, 1 - cascade.BASE_SHARE))
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    cascade.run(
      base, upper, _OUT.value, seconds=_SECONDS.value, per_digit=_PER_DIGIT.value
    )
  with open(f"{_OUT.value}/table.txt") as file:
    print(f"\n{file.read()}\nLook at {_OUT.value}/report.html and cascade.gif")
