"""FDM, small, for a CPU: 16x16 walks through one maze, windows of 8 frames.

What `make maze-demo` trains. Nothing to download (needs the extra `maze`):

    vdm-jax data build maze/16px_300frames_8videos_4heldout
    vdm-jax train --config=configs/fdm_maze_small.py --workdir=DIR
    vdm-jax sample --workdir=DIR --length=100 --num_obs=10 --out=DIR2

Argument: name, the data set to train on.

All settings are our choice; no published number belongs to it. The network is the
paper's. It predicts x, on a cosine schedule: after minutes of training that gives
blurred walls, where eps or v leave noise that the network cannot tell from them yet.
And it is trained on the windows of the plans alone (docs/fdm.md): most of the paper's
have no given frame, and much longer trainings are needed before given frames matter.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common["arguments"](arg, name="maze/16px_300frames_8videos_4heldout")
  config = common["fdm"](clip_length=300, max_frames=8)
  config.task = common["plan_stages"](
    length=100,
    num_obs=10,
    max_frames=8,
    step_size=4,
    plan_names=("hierarchy-2", "long-range", "autoreg"),
  )
  config.dtype = "float32"
  config.data.update(
    dict(name=arguments["name"], frame_shape=(16, 16, 3), num_threads=2, prefetch_mb=64)
  )
  config.model.update(
    dict(channels=32, channel_mults=(1, 2), blocks=1, attention_resolutions=(8,))
  )
  config.diffusion.update(dict(schedule="cosine_steps", predict="x", loss_space="x"))
  config.optimizer.update(dict(learning_rate=3e-3, warmup_steps=50, clip_norm=1.0))
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
  config.sampling.update(dict(sampler="ddim", steps=50))
  config.preflight.topology = "v5e:2x2"
  return config
