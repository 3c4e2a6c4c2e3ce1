"""Common parts of RVD's configs: task, network, diffusion and training."""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def next_frame(
  num_frames: int, num_context: int = 2, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Makes the task of every frame given the frames before it (RVD)."""
  return ConfigDict(
    dict(
      name="next_frame",
      num_frames=num_frames,  # Frames of a clip.
      num_context=num_context,  # Frames at the start that are given but not scored.
      stride=stride,
      flip=flip,
    )
  )


def rvd_model(height: int = 64) -> ConfigDict:
  """Makes RVD's networks by the authors' presets for 64, or 128 and 256, pixels."""
  small = height == 64
  return ConfigDict(
    dict(
      channels=48 if small else 64,  # Base width of the denoiser.
      channel_mults=(1, 2, 4, 8) if small else (1, 1, 2, 2, 4, 4),  # And context net.
      predictor_mults=(1, 2, 2, 4) if small else (1, 2, 3, 4),  # Predictor's.
      context_factor=1.0,  # Base width of the context net in units of channels.
      predictor_factor=1.0,  # Base width of the predictor in these units.
      recurrent_block="resnet",  # Block of these two; or 'convnext'.
      denoiser_block="resnet",
      residual=True,  # False has no predictor and diffuses frames (the ablation).
      residual_scale=1.0,  # Divisor of residuals.
      finest_skip=False,  # Ours: the denoiser's way up has the finest level, too.
      join=False,  # Ours: the denoiser takes prediction and previous frame.
      estimate_frame=False,  # Ours: the denoiser estimates the frame, not the residual.
      remat="none",
    )
  )


def rvd_diffusion() -> ConfigDict:
  """Makes RVD's diffusion and objective, as released."""
  return ConfigDict(
    dict(
      schedule="cosine_steps",
      num_steps=1600,
      rescale_time=False,  # The time input is the number of the step itself.
      predict="eps",  # 'eps', 'x' ("pred_true") or 'v'.
      norm="l1",
      regression_weight=0.0,  # Weight of a loss on the prediction, in this norm.
      step_per_frame=False,  # Whether every frame of a clip has its own step.
      stop_gradient=False,  # Whether the denoiser's loss is kept from the predictor.
      given_noise=0.0,  # Noise on frames that are read, see `base`.
      # Training in two stages: 'predictor', by the loss on its prediction only; then,
      # with --init_from, 'denoiser', with a fixed predictor.
      train_only="",
    )
  )


def rvd(height: int) -> ConfigDict:
  """Makes RVD's config as its authors train it, without data and task.

  Our choices, where they differ: bfloat16, and an average in every step, where theirs
  has rate 0.99 in every fifth.
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
      # The authors call the scheduler in every step from here on, not every 100,000
      # steps, so the rate falls to a fifth within 8.
      decay="exponential",
      decay_begin=100_000,  # Steps after warm-up in which the rate is constant.
      decay_rate=0.8,  # Factor of every step after these.
      decay_floor=0.2,  # Least rate, as a fraction of the first.
    )
  )
  config.train.update(
    dict(
      batch_size=16 if height == 64 else 8,  # Theirs are 2 and 1 per device.
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
  """Makes RVD's config for small frames and a CPU, all of it our choice (docs/rvd.md).

  Minutes suffice because Muon trains it; x is predicted; and the denoiser takes
  prediction and previous frame, has the finest level on its way up, estimates the frame
  instead of the residual, and reads the predictor's states instead of a context net's.
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
  # A stage has some hundred steps; a sample takes 25 network calls per frame.
  config.train.update(dict(ema=(0.99,), eval_every=500, sample_every=20_000))
  config.sampling.update(dict(sampler="ddim", steps=25))
  return config
