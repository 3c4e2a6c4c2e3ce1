"""VDM on Kinetics-600: 5 frames -> 11 frames of 64x64.

The model is unconditional; the given frames enter by reconstruction guidance.
Paper: FVD 16.2 +/- 0.34 and IS 15.64 with 128 steps and a Langevin correction after
each; FVD 18.6 and IS 15.39 with 256 ancestral steps (50k test clips, the same
subsequences for samples and truth). 256 TPU v4 chips.

    --config=configs/vdm_kinetics600.py                      Langevin, FVD 16.2
    --config=configs/vdm_kinetics600.py:sampler=ancestral    256 steps, FVD 18.6

Data, from folders of the videos (docs/data.md):

    vdm-jax data build kinetics600 PATH

Our choice, where the paper is silent: warm-up, gradient clipping, no decay of the
learning rate, bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, sampler="langevin", chips=256)
  sampler = arguments["sampler"]
  steps = {"langevin": 128, "ancestral": 256}
  if sampler not in steps:
    raise ValueError(
      f"config argument sampler: expected one of {', '.join(steps)}, found {sampler!r}"
    )
  config = common.base()
  config.data.name = "kinetics600"
  config.task = common.joint_images(num_frames=16, num_images=8)
  config.model.update(
    dict(
      channels=256,
      channel_mults=(1, 2, 4, 8),
      blocks=2,
      head_dim=64,
      mlp_layers=2,
      dropout=0.1,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.optimizer.update(dict(learning_rate=2e-4, b2=0.99))
  config.train.update(dict(batch_size=256, num_steps=220_000, ema=(0.9999,)))
  config.sampling.update(
    dict(sampler=sampler, steps=steps[sampler], gamma=0.0, reconstruction_weight=9.0)
  )
  config.preflight.topology = "v4:4x8x8"  # 256 chips.
  if arguments["chips"] not in (8, 256):
    raise ValueError("config argument chips: expected 8 or 256")
  if arguments["chips"] == 8:  # Slower, but fits, see docs/results/preflight.md.
    config.mesh.update(dict(data=1, fsdp=8))
    config.model.remat = "convolutions"
    config.train.accumulate = 8
    config.preflight.topology = "v5e:2x4"
  return config
