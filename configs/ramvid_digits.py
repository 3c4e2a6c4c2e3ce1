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

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


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
  config.dtype = "float32"
  config.data.update(
    dict(
      name="moving_digits/16px_1digit_8frames_1minspeed_deterministic",
      frame_shape=(16, 16, 1),
      num_threads=2,
      prefetch_mb=64,
    )
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
  # What a digit looks like is decided at log SNRs where little of a frame is to be
  # seen: half of the levels are below -3, in training and in sampling.
  config.diffusion.update(
    dict(
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=-3.0,
      predict="x",
      loss_space="x",
    )
  )
  config.optimizer.update(
    dict(name="muon", learning_rate=5e-3, b2=0.99, warmup_steps=50)
  )
  config.train.update(
    dict(
      batch_size=8,
      num_steps=20_000,
      ema=(0.995,),
      log_every=20,
      eval_every=500,
      eval_batches=4,
      sample_every=500,
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(sampler="ddim", steps=25))
  # Of a window without frames after it, the two next ones are kept.
  config.plan.update(dict(overlap=3, keep=2))
  config.preflight.topology = "v5e:2x2"
  return config
