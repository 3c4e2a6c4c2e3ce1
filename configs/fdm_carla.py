"""FDM on CARLA Town01: drives of 1000 frames, 128x128 (Harvey et al. 2022).

The authors' released model: FVD 124 with hierarchy-2, 246 with autoreg (100 videos, 36
frames given). Theirs: network, task, diffusion, Adam without warm-up or clipping,
550,000 steps, of 2 videos each on one GPU (`:batch=2`). Ours: a batch of 8 and
rematerialisation, so that each of 8 small chips holds one video; bfloat16.

Data, the authors' files (needs the extra `torch`):

    vdm-jax data build carla FOLDER

Their weights: `vdm-jax import --system=fdm ema_0.9999_550000.pt --out=DIR`.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_fdm


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, batch=8)
  config = common_fdm.fdm(clip_length=1000)
  config.data.update(dict(name="carla/128px", frame_shape=(128, 128, 3)))
  config.model.update(
    dict(
      channel_mults=(1, 1, 2, 3, 4),
      blocks=1,
      attention_resolutions=(16, 8),
      remat="block",
    )
  )
  config.train.update(dict(batch_size=arguments["batch"], num_steps=550_000))
  return config
