"""VDM on UCF101: unconditional 16x64x64 (Ho et al. 2022).

Paper: FID 295 +/- 3, IS 57 +/- 0.62 (C3D features, 10k samples; real videos have
IS 60.2). Trained on all 13,320 videos, test split included; 128 TPU v4 chips.

Data: all videos, none held out, as in the paper (docs/data.md):

    vdm-jax data build ucf101 PATH --fold=0

Our choice, where the paper is silent: warm-up, gradient clipping, no decay of the
learning rate, bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, chips=128)
  config = common.base()
  config.data.name = "ucf101/64px_0fold"
  config.task = common.joint_images(num_frames=16, num_images=8)
  config.model.update(
    dict(
      channels=256,
      channel_mults=(1, 2, 4, 8),
      blocks=2,
      head_dim=64,
      mlp_layers=4,
      dropout=0.1,
    )
  )
  config.diffusion.update(dict(predict="eps", loss_space="eps"))
  config.optimizer.update(dict(learning_rate=3e-4, b2=0.99))
  config.train.update(dict(batch_size=128, num_steps=60_000, ema=(0.9999,)))
  config.train.eval_every = 0  # Nothing is held out.
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.1))
  config.preflight.topology = "v4:4x4x8"  # 128 chips.
  if arguments["chips"] not in (8, 128):
    raise ValueError("config argument chips: expected 8 or 128")
  if arguments["chips"] == 8:  # Slower, but fits, see docs/results/preflight.md.
    config.mesh.update(dict(data=1, fsdp=8))
    config.model.remat = "convolutions"
    config.train.accumulate = 4
    config.preflight.topology = "v5e:2x4"
  return config
