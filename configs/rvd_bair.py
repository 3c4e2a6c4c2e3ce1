"""RVD on BAIR robot pushing: 4 frames -> 16 frames of 64x64.

    vdm-jax data build bair DIR

The length of the training clips behind the published checkpoints is not known; 8 is
that of the authors' one released training config. Networks, schedule, loss and
optimizer are theirs (`common_rvd.rvd`). To sample as they do, give 4 frames:
`--num_obs=4 --length=20`.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_rvd


def get_config() -> ConfigDict:
  config = common_rvd.rvd(64)
  config.data.update(dict(name="bair", frame_shape=(64, 64, 3)))
  config.task = common_rvd.next_frame(num_frames=8)
  return config
