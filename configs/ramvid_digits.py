"""RaMViD, small, for a CPU: 8 frames of 16x16, one bouncing digit, all four tasks.

Nothing to download:

    vdm-jax data build moving_digits/16px_1digit_8frames_1minspeed_deterministic
    vdm-jax train --config=configs/ramvid_digits.py --workdir=DIR
    vdm-jax sample --workdir=DIR --given=CLIP --given_frames=0,7 --out=DIR2

    --config=configs/ramvid_digits.py:p=0.75       p_U, for the paper's comparison
    --config=configs/ramvid_digits.py:task=mcvd    2 past, 4 current, 2 future frames

All settings are our choice; no published number belongs to it. What makes a quarter
of an hour enough (docs/ramvid.md has the measurements): x is predicted, at lower log
SNRs; the network works on patches of 2x2 pixels, every frame is shown the given frames
next to it, and 4x4 places a frame attend; Muon trains it. `make tasks-demo` lets the
learning rate fall with its clock.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common_ramvid.py")))


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common["arguments"](arg, p=0.05, task="random")
  tasks = {
    # Fewer given frames than the paper's 4: the fewer, the more is to be learnt.
    "random": common["random_mask"](8, 3, arguments["p"]),
    "mcvd": common["past_future"](2, 4, 2, drop_past=0.5, drop_future=0.5),
  }
  if arguments["task"] not in tasks:
    raise ValueError(
      f"config argument task: expected one of {', '.join(tasks)}, "
      f"found {arguments['task']!r}"
    )
  config = common["ramvid"]()
  common["small"](
    config, "moving_digits/16px_1digit_8frames_1minspeed_deterministic", (16, 16, 1)
  )
  config.task = tasks[arguments["task"]]
  config.model.update(
    dict(
      patch=2,
      show_given=True,
      channels=32,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(4,),
    )
  )
  config.diffusion.update(common["x_at_low_logsnr"]())
  config.sampling.update(dict(sampler="ddim", steps=25))
  # Of a window without frames after it, the two next ones are kept.
  config.plan.update(dict(overlap=3, keep=2))
  return config
