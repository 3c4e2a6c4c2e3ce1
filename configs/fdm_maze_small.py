"""FDM, small, for a CPU: 16x16 walks through one maze, windows of 8 frames.

`make maze-demo` trains it. Nothing is downloaded (needs the extra `maze`):

    vdm-jax data build maze/16px_300frames_8videos_4heldout
    vdm-jax train --config=configs/fdm_maze_small.py --workdir=DIR
    vdm-jax sample --workdir=DIR --length=100 --num_obs=10 --out=DIR2

Argument: name, the data set to train on.

All settings are our choice (`common_fdm.fdm_small`); docs/fdm.md has measurements.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_fdm


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, name="maze/16px_300frames_8videos_4heldout")
  return common_fdm.fdm_small(
    arguments["name"],
    frame_shape=(16, 16, 3),
    length=100,
    num_obs=10,
    plan_names=("hierarchy-2", "long-range", "autoreg"),
  )
