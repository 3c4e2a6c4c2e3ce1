"""The smallest config, for tests of the machinery; its videos are not worth a look.

    vdm-jax data build moving_digits/12px_1digit_4frames_8digitpx_64videos

Frames have 12 pixels, as a digit has 8 and needs room to move.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config() -> ConfigDict:
  config = common.base()
  config.dtype = "float32"
  config.data.update(
    dict(
      name="moving_digits/12px_1digit_4frames_8digitpx_64videos",
      frame_shape=(12, 12, 1),
      num_threads=1,
      prefetch_mb=16,
    )
  )
  config.task = common.joint_images(num_frames=4, num_images=1)
  config.model.update(
    dict(
      channels=8,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(6,),
      head_dim=8,
      embedding_dim=16,
      mlp_layers=2,
      num_labels=10,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.update(dict(learning_rate=1e-3, warmup_steps=2))
  config.train.update(
    dict(
      batch_size=8,
      num_steps=4,
      ema=(0.9,),
      log_every=1,
      eval_every=2,
      eval_batches=1,
      sample_every=4,
      num_samples=2,
      checkpoint_every=2,
    )
  )
  config.sampling.update(dict(sampler="ancestral", steps=4))
  config.preflight.topology = "v5e:2x2"
  return config
