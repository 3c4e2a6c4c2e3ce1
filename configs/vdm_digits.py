"""Small and class-conditional, for a CPU: 8 frames of 16x16, one bouncing digit.

What `make demo` trains. Nothing to download:

    vdm-jax data build moving_digits/16px_1digit_8frames_12digitpx

All settings are our choice; no published number belongs to it.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
  config = common["base"]()
  config.dtype = "float32"
  config.data.update(
    dict(
      name="moving_digits/16px_1digit_8frames_12digitpx",
      frame_shape=(16, 16, 1),
      num_threads=2,
      prefetch_mb=64,
    )
  )
  config.task = common["unconditional"](num_frames=8)
  config.model.update(
    dict(
      patch=2,
      conv_time=True,
      channels=32,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(4,),
      head_dim=32,
      embedding_dim=128,
      mlp_layers=2,
      num_labels=10,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.update(
    dict(name="muon", learning_rate=5e-3, b2=0.99, warmup_steps=50)
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
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(sampler="ancestral", steps=64, guidance=0.5))
  config.preflight.topology = "v5e:2x2"
  return config
