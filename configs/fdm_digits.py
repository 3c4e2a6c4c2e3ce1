"""FDM, small, for a CPU: one digit that bounces for 100 frames, windows of 8.

What `make long-demo` trains. Nothing to download:

    vdm-jax data build moving_digits/16px_1digit_100frames_2000videos_1minspeed
    vdm-jax train --config=configs/fdm_digits.py --workdir=DIR
    vdm-jax sample --workdir=DIR --split=test --num_obs=8 --length=100 --out=DIR2

All settings are our choice; no published number belongs to it. x is predicted, at lower
log SNRs; the network works on patches of 2x2 pixels, and every frame is shown the given
frames next to it; Muon trains it, on the windows of the plans alone; padding reaches no
other frame. In a quarter of an hour digits become sharp and bounce as real ones do, and
stay the digit that was given for tens of frames: docs/fdm.md has the measurements.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
  config = common["fdm"](clip_length=100, max_frames=8)
  config.task = common["plan_stages"](
    length=100,
    num_obs=8,
    max_frames=8,
    step_size=2,
    plan_names=("autoreg", "long-range", "hierarchy-2"),
  )
  config.dtype = "float32"
  config.data.update(
    dict(
      name="moving_digits/16px_1digit_100frames_2000videos_1minspeed",
      frame_shape=(16, 16, 1),
      num_threads=2,
      prefetch_mb=64,
    )
  )
  config.model.update(
    dict(
      patch=2,
      show_given=True,
      channels=32,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(4,),
      padding_in_norm=False,
    )
  )
  config.diffusion.update(
    dict(
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=-3.0,
      predict="x",
      loss_space="x",
      where="latent",
      normalise="selected",
    )
  )
  config.optimizer.update(
    dict(name="muon", learning_rate=5e-3, b2=0.99, warmup_steps=50, clip_norm=1.0)
  )
  config.train.update(
    dict(
      batch_size=8,
      num_steps=20_000,
      ema=(0.995,),
      log_every=20,
      eval_every=1000,
      eval_batches=4,
      sample_every=1000,
      num_samples=4,
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(sampler="ddim", steps=15))
  config.plan = ConfigDict(dict(name="autoreg", max_frames=8, step_size=2))
  config.preflight.topology = "v5e:2x2"
  return config
