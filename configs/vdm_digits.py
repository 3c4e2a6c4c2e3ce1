"""Small and class-conditional, for a CPU: 8 frames of 16x16, one bouncing digit.

`make demo` trains it. Nothing is downloaded:

    vdm-jax data build moving_digits/16px_1digit_8frames_12digitpx

All settings are our choice; no published number belongs to it.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_vdm


def get_config() -> ConfigDict:
  config = common.base()
  common.small(config, "moving_digits/16px_1digit_8frames_12digitpx", (16, 16, 1))
  config.task = common.unconditional(num_frames=8)
  common_vdm.small_vdm(config, channels=32)
  config.model.num_labels = 10
  config.sampling.guidance = 0.5
  return config
