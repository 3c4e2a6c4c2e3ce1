"""VDM, text-to-video model of 9x128x128: the upper stage of the cascade.

The paper fills in and enlarges 16x64x64 at frameskip 4 to 64x128x128 at frameskip 1
with it, by reconstruction guidance in time and space at once. No metric is printed
for it alone. 128 TPU v4 chips.

The paper's ten million captioned videos are private: put your own in a folder,
with their captions in its captions.csv (file,caption), and build

    vdm-jax data build video_folder VIDEOS/ --name=text128 --image_size=128

Captions become token embeddings of BERT-large (the `text` extra) in the input
pipeline; give the folder of a downloaded model as data.text_encoder='bert:FOLDER'.

Our choice, where the paper is silent: how often text is hidden for guidance, the
number of tokens, cased or uncased BERT, warm-up, gradient clipping, no decay of the
learning rate, bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, chips=128)
  config = common.base()
  config.data.update(
    dict(
      name="video_folder/text128",
      frame_shape=(128, 128, 3),
      text_encoder="bert:bert-large-uncased",
      max_tokens=64,  # Our choice.
    )
  )
  config.task = common.joint_images(num_frames=9, num_images=7, stride=1)
  config.model.update(
    dict(
      channels=128,
      channel_mults=(1, 2, 4, 8, 16),
      blocks=2,
      head_dim=128,
      mlp_layers=4,
      dropout=0.0,
      token_dim=1024,  # Width of BERT-large.
    )
  )
  config.diffusion.update(dict(predict="eps", loss_space="eps"))
  config.optimizer.update(dict(learning_rate=2e-4, b2=0.99))
  config.train.update(dict(batch_size=128, num_steps=800_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.3))
  config.model.remat = "block"
  config.preflight.topology = "v4:4x4x8"  # 128 chips.
  if arguments["chips"] not in (8, 128):
    raise ValueError("config argument chips: expected 8 or 128")
  if arguments["chips"] == 8:  # Slower, but fits, see docs/results/preflight.md.
    config.mesh.update(dict(data=1, fsdp=8))
    config.model.remat = "convolutions"
    config.train.accumulate = 8
    config.preflight.topology = "v5e:2x4"
  return config
