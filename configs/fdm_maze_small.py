"""FDM, small, for a CPU: 32x32 walks through one maze, windows of 8 frames.

What `make maze-demo` trains. Nothing to download (needs the extra `maze`):

    vdm-jax data build maze/32px_300frames_8videos_4heldout
    vdm-jax train --config=configs/fdm_maze_small.py --workdir=DIR
    vdm-jax sample --workdir=DIR --length=100 --num_obs=10

Argument: name, the data set to train on.

All settings are our choice; no published number belongs to it. Network, task and
objective are the paper's; v-prediction and a cosine schedule learn faster at this
size.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common["arguments"](arg, name="maze/32px_300frames_8videos_4heldout")
  config = common["fdm"](clip_length=300, max_frames=8)
  config.dtype = "float32"
  config.data.update(
    dict(name=arguments["name"], frame_shape=(32, 32, 3), num_threads=2, prefetch_mb=64)
  )
  config.model.update(
    dict(channels=32, channel_mults=(1, 1, 2), blocks=1, attention_resolutions=(8,))
  )
  config.diffusion.update(dict(schedule="cosine_steps", predict="v", loss_space="v"))
  config.optimizer.update(dict(learning_rate=1e-3, warmup_steps=50, clip_norm=1.0))
  config.train.update(
    dict(
      batch_size=4,
      num_steps=20_000,
      ema=(0.995,),
      log_every=20,
      eval_every=500,
      eval_batches=4,
      sample_every=500,
      num_samples=4,
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(steps=50, gamma=0.0))
  config.preflight.topology = "v5e:2x2"
  return config
