"""FDM on GQN-Mazes: walks of 300 frames of 64x64, a new maze in each (Harvey 2022).

The authors' own: FVD 53.1 with hierarchy-2, 64.5 with long-range, 86.4 with autoreg
(100 videos, 36 frames given). Theirs: network, task, diffusion, Adam without warm-up or
clipping, 950,000 steps; the options they give only for CARLA have their defaults
here. Ours: a batch of 8, as they do not state theirs, and rematerialisation, so that
each of 8 small chips holds one video; bfloat16.

Data, in the authors' format:

    vdm-jax data build gqn_mazes FOLDER
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common_fdm


def get_config() -> ConfigDict:
  config = common_fdm.fdm(clip_length=300)
  config.data.update(dict(name="gqn_mazes/64px", frame_shape=(64, 64, 3)))
  config.model.remat = "block"
  config.train.num_steps = 950_000
  return config
