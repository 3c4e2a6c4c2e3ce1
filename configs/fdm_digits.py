"""FDM, small, for a CPU: one digit that bounces for 100 frames, windows of 8.

`make long-demo` trains it. Nothing is downloaded:

    vdm-jax data build \
      moving_digits/16px_1digit_100frames_2000videos_1minspeed_deterministic
    vdm-jax train --config=configs/fdm_digits.py --workdir=DIR
    vdm-jax sample --workdir=DIR --split=test --num_obs=8 --length=100 --out=DIR2

All settings are our choice (`common_fdm.fdm_small`); docs/fdm.md has measurements.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_fdm


def get_config() -> ConfigDict:
  return common_fdm.fdm_small(
    "moving_digits/16px_1digit_100frames_2000videos_1minspeed_deterministic",
    frame_shape=(16, 16, 1),
    length=100,
    num_obs=8,
    plan_names=("autoreg", "long-range", "hierarchy-2"),
  )
