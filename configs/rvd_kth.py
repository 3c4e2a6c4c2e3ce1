"""RVD on KTH actions: 4 frames -> 12 frames of 64x64, gray.

    vdm-jax data build kth DIR

The length of the training clips is that of the authors' one released training config;
the rest is theirs (`common_rvd.rvd`). To sample as they do, give 4 frames:
`--num_obs=4 --length=16`.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_rvd


def get_config() -> ConfigDict:
  config = common_rvd.rvd(64)
  config.data.update(dict(name="kth", frame_shape=(64, 64, 1)))
  config.task = common_rvd.next_frame(num_frames=8)
  return config
