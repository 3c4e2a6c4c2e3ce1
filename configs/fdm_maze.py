"""FDM on walks through one maze, 64x64, for one GPU.

Its long videos are judged as walks. Data are rendered (needs the extra `maze`):

    vdm-jax data build maze/64px_300frames_100videos
    vdm-jax train --config=configs/fdm_maze.py --workdir=DIR
    vdm-jax sample --workdir=DIR --length=300 --num_obs=36 --plan=hierarchy-2 --out=DIR2

Argument: name, the data set to train on; batch.

Network, task and objective are the paper's, at half its width; the rest is our
choice: v-prediction and a cosine schedule learn faster, and sampling takes 100 steps.
No published number belongs to it.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_fdm


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, name="maze/64px_300frames_100videos", batch=8)
  config = common_fdm.fdm(clip_length=300)
  config.data.update(dict(name=arguments["name"], frame_shape=(64, 64, 3)))
  config.model.update(dict(channels=64, blocks=1))
  config.diffusion.update(dict(schedule="cosine_steps", predict="v", loss_space="v"))
  config.optimizer.update(dict(learning_rate=3e-4, warmup_steps=500, clip_norm=1.0))
  config.train.update(
    dict(
      batch_size=arguments["batch"],
      num_steps=100_000,
      ema=(0.999,),
      eval_every=2000,
      sample_every=5000,
      num_samples=4,
    )
  )
  config.sampling.update(dict(steps=100, gamma=0.0))
  return config
