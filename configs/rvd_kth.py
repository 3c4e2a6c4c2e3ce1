"""RVD on KTH actions: 4 frames -> 12 frames of 64x64, gray.

    vdm-jax data build kth DIR

The length of the training clips is that of the authors' one released training config;
the rest is theirs (`common.rvd`). To sample as they do, give 4 frames:
`--num_obs=4 --length=16`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common_rvd.py")))


def get_config() -> ConfigDict:
  config = common["rvd"](64)
  config.data.update(dict(name="kth", frame_shape=(64, 64, 1)))
  config.task = common["next_frame"](num_frames=8)
  return config
