"""RaMViD on Kinetics-600: one model of 16x64x64 for all four tasks.

The settings of the authors' README; 500,000 steps on 8 GPUs, as their project page
says, so that their 8 videos per process make 64. Published: FVD 16.46 (5 frames
given, 11 predicted).

    vdm-jax sample --workdir=DIR --given=CLIP --given_frames=0,1,2,3,4 --out=DIR2

Data: see docs/data.md. Our choice: bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_ramvid


def get_config() -> ConfigDict:
  config = common_ramvid.ramvid(num_frames=16, uncondition_rate=0.25)
  config.data.name = "kinetics600"
  config.model.blocks = 3
  config.train.num_steps = 500_000
  return config
