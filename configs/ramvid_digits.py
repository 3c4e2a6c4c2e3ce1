"""RaMViD, small, for a CPU: 8 frames of 16x16, one bouncing digit, all four tasks.

Nothing is downloaded:

    vdm-jax data build moving_digits/16px_1digit_8frames_1minspeed_deterministic
    vdm-jax train --config=configs/ramvid_digits.py --workdir=DIR
    vdm-jax sample --workdir=DIR --given=CLIP --given_frames=0,7 --out=DIR2

    --config=configs/ramvid_digits.py:p=0.75       p_U, for the paper's comparison
    --config=configs/ramvid_digits.py:task=mcvd    2 past, 4 current, 2 future frames

All settings are our choice (`common_ramvid.ramvid_small`); docs/ramvid.md has
measurements. In `make tasks-demo` the learning rate decays with time.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_ramvid


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, p=0.05, task="random")
  tasks = {
    "random": common_ramvid.random_mask(8, 3, arguments["p"]),
    "mcvd": common.past_future(2, 4, 2, drop_past=0.5, drop_future=0.5),
  }
  if arguments["task"] not in tasks:
    raise ValueError(
      f"config argument task: expected one of {', '.join(tasks)}, "
      f"found {arguments['task']!r}"
    )
  config = common_ramvid.ramvid_small(
    "moving_digits/16px_1digit_8frames_1minspeed_deterministic",
    (16, 16, 1),
    channels=32,
  )
  config.task = tasks[arguments["task"]]
  return config
