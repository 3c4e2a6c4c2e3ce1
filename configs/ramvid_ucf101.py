"""RaMViD on UCF-101: 16x64x64, mostly for unconditional generation (p_U = 0.75).

The settings of the authors' README, which does not say how long they trained: 500,000
steps, as for Kinetics-600, are our choice, and so are 8 processes of 8 videos.

Data: see docs/data.md. Our choice: bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_ramvid


def get_config() -> ConfigDict:
  config = common_ramvid.ramvid(num_frames=16, uncondition_rate=0.75)
  config.data.name = "ucf101"
  config.model.blocks = 3
  config.train.num_steps = 500_000
  return config
