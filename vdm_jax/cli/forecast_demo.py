"""`vdm-jax forecast-demo --out=DIR [--seconds=N]`: RVD with and without residual."""

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config("rvd_digits")
_OUT = flags.DEFINE_string("out", "runs/forecast_demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 220.0, "Total wall-clock seconds for training each of the two."
)
_NUM_CLIPS = flags.DEFINE_integer(
  "num_clips", 32, "Number of test clips.", lower_bound=3
)
_MEMBERS = flags.DEFINE_integer(
  "members", 8, "Number of members of each ensemble.", lower_bound=2
)
_NUM_FRAMES = flags.DEFINE_integer(
  "num_frames",
  20,
  "Number of frames per clip, the 4 given ones included.",
  lower_bound=6,
)


def main(argv: list[str]) -> None:
  """Trains, rolls out and measures; prints the table and the paths of the figures."""
  if len(argv) > 1:
    raise UserError(f"forecast-demo takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)

  from vdm_jax.demo import forecast, timed

  # Both stages of the first run need time to compile.
  timed.check_seconds(_SECONDS.value, forecast.PREDICTOR_SHARE)
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    forecast.run(
      config,
      _OUT.value,
      seconds=_SECONDS.value,
      num_clips=_NUM_CLIPS.value,
      members=_MEMBERS.value,
      num_frames=_NUM_FRAMES.value,
    )
  with open(f"{_OUT.value}/table.txt") as file:
    print(f"\n{file.read()}\nLook at {_OUT.value}/by_lead.png and residuals.png")
