"""`vdm-jax long-demo --out=DIR [--seconds=N]`: FDM keeps a digit for 100 frames."""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config("fdm_digits")
_OUT = flags.DEFINE_string("out", "runs/long_demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 660.0, "Total wall-clock seconds for training the model."
)
_PLANS = flags.DEFINE_list(
  "plans", ["autoreg", "long-range", "hierarchy-2"], "Sampling plans to compare."
)
_NUM_VIDEOS = flags.DEFINE_integer(
  "num_videos", 24, "Number of videos per plan.", lower_bound=2
)
_LENGTH = flags.DEFINE_integer(
  "length", 100, "Number of frames per video.", lower_bound=28
)


def main(argv: list[str]) -> None:
  """Trains, samples and measures; prints the table and the paths of the figures."""
  if len(argv) > 1:
    raise UserError(f"long-demo takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)

  from vdm_jax.demo import long, timed

  timed.check_seconds(_SECONDS.value)
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    long.run(
      config,
      _OUT.value,
      seconds=_SECONDS.value,
      plan_names=_PLANS.value,
      num_videos=_NUM_VIDEOS.value,
      length=_LENGTH.value,
    )
  with open(f"{_OUT.value}/table.txt") as file:
    print(f"\n{file.read()}\nLook at {_OUT.value}/long.png, long.gif and paths.png")
