"""RVD on the fluid simulation: 4 frames -> 16 frames of 128x128, gray.

    vdm-jax data build fluid DIR

The simulation itself was not published; the format is that of the authors' reader. The
length of the training clips is that of their one released training config; the rest is
theirs (`common_rvd.rvd`). To sample as they do, give 4 frames:
`--num_obs=4 --length=20`.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_rvd


def get_config() -> ConfigDict:
  config = common_rvd.rvd(128)
  config.data.update(dict(name="fluid", frame_shape=(128, 128, 1)))
  config.task = common_rvd.next_frame(num_frames=8)
  return config
