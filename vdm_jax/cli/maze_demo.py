"""`vdm-jax maze-demo --out=DIR [--seconds=N]`: FDM walks through a maze."""

import json

from absl import flags

from vdm_jax import configs
from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config("fdm_maze_small")
_OUT = flags.DEFINE_string("out", "runs/maze_demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 300.0, "Total wall-clock seconds for training the model."
)
_REGRESSOR_SECONDS = flags.DEFINE_float(
  "regressor_seconds",
  None,
  "Total seconds for training the position regressor; default a third of --seconds.",
  lower_bound=0.1,
)
_PLANS = flags.DEFINE_list("plans", ["hierarchy-2"], "Sampling plans to compare.")
_NUM_VIDEOS = flags.DEFINE_integer(
  "num_videos", 4, "Number of walks per plan.", lower_bound=1
)
_LENGTH = flags.DEFINE_integer(
  "length", 100, "Number of frames per walk.", lower_bound=2
)
_NUM_OBS = flags.DEFINE_integer("num_obs", 10, "Number of given frames.", lower_bound=2)


def main(argv: list[str]) -> None:
  """Trains, samples and measures; prints the table and the paths of the figures."""
  if len(argv) > 1:
    raise UserError(f"maze-demo takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)
  regressor = configs.get("position_regressor_maze")
  regressor = json.loads(regressor.to_json_best_effort())

  from vdm_jax.demo import maze, timed

  timed.check_seconds(_SECONDS.value)
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    maze.run(
      config,
      regressor,
      _OUT.value,
      seconds=_SECONDS.value,
      regressor_seconds=_REGRESSOR_SECONDS.value or _SECONDS.value / 3,
      plan_names=_PLANS.value,
      num_videos=_NUM_VIDEOS.value,
      length=_LENGTH.value,
      num_obs=_NUM_OBS.value,
    )
  with open(f"{_OUT.value}/table.txt") as file:
    print(f"\n{file.read()}\nLook at {_OUT.value}/walks.gif and walk/map.png")
