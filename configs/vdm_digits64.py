"""For one GPU: 16 frames of two bouncing digits, 64x64.

The published resolution with a narrow network and data that needs no download:

    vdm-jax data build moving_digits/64px_2digits_20frames

All settings are our choice; no published number belongs to it. Videos of the data set
have 20 frames, of which a clip takes 16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config() -> ConfigDict:
  config = common.base()
  config.data.update(
    dict(name="moving_digits/64px_2digits_20frames", frame_shape=(64, 64, 1))
  )
  config.task = common.joint_images(num_frames=16, num_images=4)
  config.model.update(
    dict(
      channels=64,
      channel_mults=(1, 2, 3, 4),
      attention_resolutions=(8, 16),
      head_dim=64,
      embedding_dim=512,
      mlp_layers=2,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.update(dict(learning_rate=3e-4, warmup_steps=500))
  config.train.update(
    dict(
      batch_size=32,
      num_steps=50_000,
      ema=(0.999,),
      eval_every=2000,
      sample_every=2000,
    )
  )
  config.sampling.update(dict(sampler="ancestral", steps=128, gamma=0.1))
  config.preflight.topology = "v5e:2x2"
  return config
