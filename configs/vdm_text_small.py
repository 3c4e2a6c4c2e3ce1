"""VDM, small text-to-video model: 16x64x64.

The ablation of joint training on independent images. Paper, with 0 / 4 / 8 images:
FVD 202 / 68 / 58, FID averaged over frames 37.5 / 18.6 / 15.6. 64 TPU v4 chips.

    --config=configs/vdm_text_small.py             8 images, FVD 58
    --config=configs/vdm_text_small.py:images=4    4 images, FVD 68
    --config=configs/vdm_text_small.py:images=0    none, FVD 202

The paper's ten million captioned videos are private: put your own in a folder,
with their captions in its captions.csv (file,caption), and build

    vdm-jax data build video_folder VIDEOS/ --name=text64

Captions become token embeddings of BERT-large (the `text` extra) in the input
pipeline; give the folder of a downloaded model as data.text_encoder='bert:FOLDER'.

Our choice, where the paper is silent: how often text is hidden for guidance, the
number of tokens, cased or uncased BERT, warm-up, gradient clipping, no decay of the
learning rate, bfloat16.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  arguments = common.arguments(arg, images=8, chips=64)
  images = arguments["images"]
  config = common.base()
  config.data.update(
    dict(
      name="video_folder/text64",
      frame_shape=(64, 64, 3),
      text_encoder="bert:bert-large-uncased",
      max_tokens=64,  # Our choice.
    )
  )
  config.task = common.joint_images(num_frames=16, num_images=images, stride=1)
  config.model.update(
    dict(
      channels=128,
      channel_mults=(1, 2, 4, 8),
      blocks=2,
      head_dim=64,
      mlp_layers=4,
      dropout=0.0,
      token_dim=1024,  # Width of BERT-large.
    )
  )
  config.diffusion.update(dict(predict="eps", loss_space="eps"))
  config.optimizer.update(dict(learning_rate=3e-4, b2=0.99))
  config.train.update(dict(batch_size=128, num_steps=200_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.3))
  config.preflight.topology = "v4:4x4x4"  # 64 chips.
  if arguments["chips"] not in (8, 64):
    raise ValueError("config argument chips: expected 8 or 64")
  if arguments["chips"] == 8:  # Slower, but fits, see docs/results/preflight.md.
    config.mesh.update(dict(data=1, fsdp=8))
    config.model.remat = "convolutions"
    config.train.accumulate = 2
    config.preflight.topology = "v5e:2x4"
  return config
