"""What the configs of RVD share: task, network, diffusion and training."""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def next_frame(
  num_frames: int, num_context: int = 2, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Task: every frame from the frames before it (RVD)."""
  return ConfigDict(
    dict(
      name="next_frame",
      num_frames=num_frames,  # Of a clip.
      num_context=num_context,  # Given at its start, not scored.
      stride=stride,
      flip=flip,
    )
  )


def rvd_model(height: int = 64) -> ConfigDict:
  """Networks of RVD; the authors' presets for frames of 64, or 128 and 256, pixels."""
  small = height == 64
  return ConfigDict(
    dict(
      channels=48 if small else 64,  # Base width, of the denoiser.
      channel_mults=(1, 2, 4, 8) if small else (1, 1, 2, 2, 4, 4),  # And context net.
      predictor_mults=(1, 2, 2, 4) if small else (1, 2, 3, 4),  # Of the predictor.
      context_factor=1.0,  # Base width of the context net, in units of channels.
      predictor_factor=1.0,  # Of the predictor.
      recurrent_block="resnet",  # Of these two; or 'convnext'.
      denoiser_block="resnet",
      residual=True,  # False has no predictor and diffuses frames: the ablation.
      residual_scale=1.0,  # What residuals are divided by.
      finest_skip=False,  # Ours: the denoiser comes up to the finest level, too.
      join=False,  # Ours: the denoiser sees prediction and last frame themselves.
      estimate_frame=False,  # Ours: it estimates the frame, not the residual.
      remat="none",
    )
  )


def rvd_diffusion() -> ConfigDict:
  """Diffusion and objective of RVD, as released."""
  return ConfigDict(
    dict(
      schedule="cosine_steps",
      num_steps=1600,
      rescale_time=False,  # The network is told the number of the step itself.
      predict="eps",  # 'eps', 'x' ("pred_true") or 'v'.
      norm="l1",
      regression_weight=0.0,  # Of a loss on the prediction itself, in this norm.
      step_per_frame=False,  # One step for all frames of a clip.
      stop_gradient=False,  # Keep the denoiser's loss from training the predictor.
      given_noise=0.0,  # On frames that are read, see `base`.
      # Training in two stages: 'predictor', by the loss on its prediction alone; then,
      # with --init_from, 'denoiser', under a predictor that stays as it is.
      train_only="",
    )
  )


def rvd(height: int) -> ConfigDict:
  """RVD as its authors train it; data and task are left to the config.

  Our choice, where it is not theirs: bfloat16; an average in every step, where they
  have one of rate 0.99 in every fifth.
  """
  config = common.base()
  config.system = "rvd"
  config.model = rvd_model(height)
  config.diffusion = rvd_diffusion()
  config.optimizer.update(
    dict(
      learning_rate=5e-5,
      b2=0.999,
      warmup_steps=0,
      clip_norm=0.0,
      # They call the scheduler in every step from here on, not every 100,000 steps:
      # the rate falls to a fifth within 8.
      decay="exponential",
      decay_begin=100_000,
      decay_rate=0.8,
      decay_floor=0.2,
    )
  )
  config.train.update(
    dict(
      batch_size=16 if height == 64 else 8,  # Theirs are 2 and 1 a device.
      num_steps=1_000_000,
      ema=(0.998,),
      eval_every=4000,
      sample_every=20_000,  # 1600 network calls for each new frame.
      checkpoint_every=4000,
    )
  )
  config.sampling.update(dict(sampler="ancestral", steps=1600, gamma=0.0))
  config.preflight.topology = "v5e:2x4"
  config.plan = ConfigDict(dict(name="rollout"))
  return config


def rvd_small(
  data: str, frame_shape: tuple[int, int, int], channels: int
) -> ConfigDict:
  """RVD for small frames and a CPU, all of it our choice (docs/rvd.md).

  What makes minutes enough: Muon trains it; x is predicted; the denoiser sees
  prediction and last frame, comes up to the finest level, estimates the frame that the
  residual makes, and reads the predictor's states instead of having a context net.
  """
  config = rvd(64)
  common.small(config, data, frame_shape)
  config.task = next_frame(num_frames=10)
  config.model.update(
    dict(
      channels=channels,
      channel_mults=(1, 2),
      predictor_mults=(1, 2),
      context_factor=0.0,
      finest_skip=True,
      join=True,
      estimate_frame=True,
    )
  )
  config.diffusion.update(dict(predict="x", regression_weight=1.0, step_per_frame=True))
  config.optimizer.decay = "constant"
  # A stage has some hundred steps; a sample takes 25 network calls a frame.
  config.train.update(dict(ema=(0.99,), eval_every=500, sample_every=20_000))
  config.sampling.update(dict(sampler="ddim", steps=25))
  return config
