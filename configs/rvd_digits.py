"""RVD, small, for a CPU: one bouncing digit of 16x16, 4 frames -> 16 frames.

Nothing to download:

    vdm-jax data build moving_digits/16px_1digit_20frames
    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/rvd_digits

All settings are our choice; no published number belongs to it. The prediction has a
small loss of its own: with a short budget, that is what makes it a forecast.
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
      name="moving_digits/16px_1digit_20frames",
      frame_shape=(16, 16, 1),
      num_threads=2,
      prefetch_mb=64,
    )
  )
  config.task = common["next_frame"](num_frames=10)
  config.model.update(
    dict(channels=16, channel_mults=(1, 2, 4), predictor_mults=(1, 2, 4))
  )
  config.diffusion.update(dict(regression_weight=0.1))
  config.optimizer.update(dict(learning_rate=1e-3, warmup_steps=50, clip_norm=1.0))
  config.train.update(
    dict(
      batch_size=8,
      num_steps=2000,
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
