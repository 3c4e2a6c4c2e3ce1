"""RVD on Cityscapes sequences: 4 frames -> 16 frames of 128x128.

    vdm-jax data build cityscapes DIR

The authors' test config has 128 pixels, their training config 256 and clips of 8
frames; the rest is theirs (`common_rvd.rvd`). To sample as they do, give 4 frames:
`--num_obs=4 --length=20`.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_rvd


def get_config() -> ConfigDict:
  config = common_rvd.rvd(128)
  config.data.update(dict(name="cityscapes", frame_shape=(128, 128, 3)))
  config.task = common_rvd.next_frame(num_frames=8)
  return config
