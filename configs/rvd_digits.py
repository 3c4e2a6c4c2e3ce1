"""RVD, small, for a CPU: one bouncing digit of 16x16, 4 frames -> 16 frames.

Nothing is downloaded:

    vdm-jax data build moving_digits/16px_1digit_20frames_1minspeed
    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/rvd_digits

All settings are our choice (`common_rvd.rvd_small`); docs/rvd.md has measurements. The
predictor is trained by itself first; `make forecast-demo` does both stages:

    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/predictor \
      --config.diffusion.train_only=predictor
    vdm-jax train --config=configs/rvd_digits.py --workdir=runs/rvd_digits \
      --config.diffusion.train_only=denoiser --init_from=runs/predictor
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_rvd


def get_config() -> ConfigDict:
  return common_rvd.rvd_small(
    "moving_digits/16px_1digit_20frames_1minspeed", (16, 16, 1), channels=16
  )
