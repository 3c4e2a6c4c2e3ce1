"""RaMViD on BAIR robot pushing: trained on 20 frames of 64x64, sampled 1 -> 15.

The settings of the authors' README; 250,000 steps on 8 GPUs, as their project page
says, so that their 4 videos per process make 32. Published: FVD 84.20.

    vdm-jax sample --workdir=DIR --given=CLIP --given_frames=0 \\
      --length=16 --plan=fill --out=DIR2

Data: see docs/data.md. Our choice: bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_ramvid


def get_config() -> ConfigDict:
  config = common_ramvid.ramvid(num_frames=20, uncondition_rate=0.25)
  config.data.name = "bair"
  config.train.update(dict(batch_size=32, num_steps=250_000))
  return config
