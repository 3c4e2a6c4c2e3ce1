"""RVD, small, for a CPU: one bouncing digit of 16x16, 4 frames -> 16 frames.

Nothing to download:

    vdm-jax data build moving_digits/16px_1digit_20frames_1minspeed
    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/rvd_digits

All settings are our choice; no published number belongs to it. What makes minutes
enough (docs/rvd.md has the measurements): the predictor is trained by itself first, and
Muon trains it; x is predicted; the denoiser sees prediction and last frame, comes up to
the finest level, estimates the frame that the residual makes, and reads the predictor's
states instead of having a context net.
`make forecast-demo` does both stages:

    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/predictor \
      --config.diffusion.train_only=predictor
    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/rvd_digits \
      --config.diffusion.train_only=denoiser --init_from=runs/predictor
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
  config = common["rvd"](64)
  config.dtype = "float32"
  config.data.update(
    dict(
      name="moving_digits/16px_1digit_20frames_1minspeed",
      frame_shape=(16, 16, 1),
      num_threads=2,
      prefetch_mb=64,
    )
  )
  config.task = common["next_frame"](num_frames=10)
  config.model.update(
    dict(
      channels=16,
      channel_mults=(1, 2),
      predictor_mults=(1, 2),
      context_factor=0.0,
      finest_skip=True,
      join=True,
      estimate_frame=True,
    )
  )
  config.diffusion.update(dict(predict="x", regression_weight=1.0, step_per_frame=True))
  config.optimizer.update(
    dict(
      name="muon",
      learning_rate=5e-3,
      b2=0.99,
      warmup_steps=50,
      clip_norm=1.0,
      decay="constant",
    )
  )
  config.train.update(
    dict(
      batch_size=8,
      num_steps=20_000,
      ema=(0.99,),
      log_every=20,
      eval_every=500,
      eval_batches=4,
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(sampler="ddim", steps=25))
  config.preflight.topology = "v5e:2x2"
  return config
