"""RaMViD on BAIR robot pushing: trained on 20 frames of 64x64, sampled 1 -> 15.

The settings of the authors' README; 250,000 steps on 8 GPUs and FVD 84.20 as they
report. Their batch is 4 a process: 32 here.

    vdm-jax sample --workdir=DIR --given=CLIP --given_frames=0 --length=16 --plan=fill

Data: see docs/data.md. Our choice: bfloat16, and `remat` and `accumulate`, which make
it fit 8 chips of 16 GB and change no number.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))


def get_config() -> ConfigDict:
  config = common["ramvid"](num_frames=20, uncondition_rate=0.25)
  config.data.name = "bair"
  config.train.update(dict(batch_size=32, num_steps=250_000))
  return config
