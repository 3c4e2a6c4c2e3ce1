"""`vdm-jax tasks-demo --out=DIR [--seconds=N]`: four tasks of one RaMViD model."""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config("ramvid_digits")
_OUT = flags.DEFINE_string("out", "runs/tasks_demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 750.0, "Total wall-clock seconds for training each model."
)
_RATES = flags.DEFINE_list(
  "rates", [], "Shares of examples without given frames, one model each; default the"
  " config's.",
)  # fmt: skip
_NUM_CLIPS = flags.DEFINE_integer(
  "num_clips", 64, "Number of test clips.", lower_bound=2
)


def main(argv: list[str]) -> None:
  """Trains, samples and measures; prints the table and the path of the figure."""
  if len(argv) > 1:
    raise UserError(f"tasks-demo takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)
  try:
    rates = [float(rate) for rate in _RATES.value]
  except ValueError:
    raise UserError(f"--rates={','.join(_RATES.value)}: expected numbers") from None

  from vdm_jax.demo import tasks, timed

  timed.check_seconds(_SECONDS.value)
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    tasks.run(
      config,
      _OUT.value,
      seconds=_SECONDS.value,
      rates=rates,
      num_clips=_NUM_CLIPS.value,
    )
  with open(f"{_OUT.value}/table.txt") as file:
    print(f"\n{file.read()}\nLook at {_OUT.value}/tasks.png and tasks.gif")
