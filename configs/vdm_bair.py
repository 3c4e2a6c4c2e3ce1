"""VDM on BAIR robot pushing: 1 frame -> 15 frames of 64x64.

The model is unconditional; the given frame enters by reconstruction guidance.
Paper: FVD 68.19 with 512 ancestral steps, 66.92 with 256 steps and a Langevin
correction after each (100 samples for each of the 256 test clips, I3D). 128 TPU v4
chips.

    --config=configs/vdm_bair.py                      Langevin sampler, FVD 66.92
    --config=configs/vdm_bair.py:sampler=ancestral    512 ancestral steps, FVD 68.19

Data, from the files as released (docs/data.md):

    vdm-jax data build bair PATH/softmotion30_44k

Our choice, where the paper is silent: weight decay is AdamW's (decoupled, not on
biases and norms); warm-up, gradient clipping, no decay of the learning rate, bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, sampler="langevin", chips=128)
  sampler = arguments["sampler"]
  steps = {"langevin": 256, "ancestral": 512}
  if sampler not in steps:
    raise ValueError(
      f"config argument sampler: expected one of {', '.join(steps)}, found {sampler!r}"
    )
  config = common.base()
  config.data.name = "bair"
  config.task = common.joint_images(num_frames=16, num_images=8, flip=True)
  config.model.update(
    dict(
      channels=128,
      channel_mults=(1, 2, 3, 4),
      blocks=3,
      head_dim=64,
      mlp_layers=2,
      dropout=0.1,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.update(
    dict(name="adamw", learning_rate=2e-4, b2=0.999, weight_decay=0.01)
  )
  config.train.update(dict(batch_size=128, num_steps=660_000, ema=(0.999,)))
  config.sampling.update(
    dict(sampler=sampler, steps=steps[sampler], gamma=0.0, reconstruction_weight=50.0)
  )
  config.preflight.topology = "v4:4x4x8"  # 128 chips.
  if arguments["chips"] not in (8, 128):
    raise ValueError("config argument chips: expected 8 or 128")
  if arguments["chips"] == 8:  # Slower, but fits, see docs/results/preflight.md.
    config.mesh.update(dict(data=1, fsdp=8))
    config.model.remat = "convolutions"
    config.train.accumulate = 2
    config.preflight.topology = "v5e:2x4"
  return config
