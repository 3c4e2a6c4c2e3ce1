"""VDM's cascade from captions, for a CPU: a digit's direction, 32 frames of 32x32.

`make cascade-demo` trains the two models, one after the other:

    --config=configs/vdm_digits_cascade.py:stage=base     8x16x16, every fourth frame
    --config=configs/vdm_digits_cascade.py:stage=upper    9x32x32, every frame

The upper model enlarges the base model's videos and fills in frames, by guidance only:

    vdm-jax sample --workdir=BASE --then=UPPER --caption='a three moving left' \
      --guidance=2 --out=DIR

Captions are embedded by MiniLM (extra `minilm`). All settings are our choice; no
published number belongs to it.
"""

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_vdm

DATA = "_".join(
  ["moving_digits/32px", "1digit", "29frames", "20digitpx", "4000videos", "1maxspeed"]
  + ["2every", "deterministic", "captions"]
)


def get_config(arg: str | None = None) -> ConfigDict:
  stage = common.arguments(arg, stage="base")["stage"]
  if stage not in ("base", "upper"):
    raise ValueError(f"config argument stage: expected base or upper, found {stage!r}")
  config = common.base()
  if stage == "base":
    common.small(config, DATA, (16, 16, 1))
    config.data.pool = 2
    config.task = common.unconditional(num_frames=8, stride=4)
    common_vdm.small_vdm(config, channels=32)
  else:
    common.small(config, DATA, (32, 32, 1))
    config.task = common.unconditional(num_frames=9)
    common_vdm.small_vdm(config, channels=32)
    config.model.update(dict(patch=4, attention_resolutions=(4,)))
    config.plan.overlap = 1  # Frames of the window before, beside the smaller video.
    # The smaller video guides, at the cost of a backward pass per step.
    config.sampling.steps = 32
    # Twice what is exact for Gaussian pixels, as a small model follows guidance late.
    config.sampling.super_resolution_weight = 8.0
  config.data.update(dict(text_encoder="minilm", max_tokens=16))
  config.model.token_dim = 384
  config.sampling.guidance = 4.0 if stage == "base" else 0.0
  return config
