"""A template for your own videos; copy it and change what differs.

Put the videos in a folder, anywhere, and build a data set under a name:

    vdm-jax data build video_folder VIDEOS/ --name=mine

then

    vdm-jax train --config=configs/vdm_video_folder.py:name=mine --workdir=runs/mine

The network is UCF101's at half the width, at a batch of 32. Where that does not fit:
train.accumulate=8, model.remat=block, or more devices with mesh.fsdp=-1, mesh.data=1;
`vdm-jax preflight --config=... --local` says what a step takes.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config(arg: str | None = None) -> ConfigDict:
  name = common["arguments"](arg, name="mine")["name"]
  config = common["base"]()
  config.data.name = f"video_folder/{name}"
  config.data.frame_shape = (64, 64, 3)  # As the data set was built.
  # `min_length` = (num_frames - 1) * stride + 1: shorter videos are left out.
  config.task = common["joint_images"](num_frames=16, num_images=4, stride=1, flip=True)
  config.model.channels = 128
  config.model.dropout = 0.1  # Small data sets want more.
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.learning_rate = 2e-4
  config.train.update(dict(batch_size=32, num_steps=200_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.1))
  config.preflight.topology = "v5e:2x2"
  return config
