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

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common_rvd.py")))


def get_config() -> ConfigDict:
  config = common["rvd"](64)
  common["small"](config, "moving_digits/16px_1digit_20frames_1minspeed", (16, 16, 1))
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
  config.optimizer.decay = "constant"
  # A stage has some hundred steps; a sample takes 25 network calls a frame.
  config.train.update(dict(ema=(0.99,), eval_every=500, sample_every=20_000))
  config.sampling.update(dict(sampler="ddim", steps=25))
  return config
