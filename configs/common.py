"""Every field of a config, with its default and what it means.

A config file starts from `base()` and changes what differs. It finds this file
beside itself, so that `--config=configs/vdm_ucf101.py` works from any folder:

    common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))
    config = common["base"]()

Where VDM's paper names a value that all of its models share, that value is the
default; where it is silent, the comment says "our choice".
"""

from ml_collections import ConfigDict


def base() -> ConfigDict:
  """All fields with their defaults."""
  config = ConfigDict()
  config.system = "vdm"  # Which paper: a name in vdm_jax.systems.
  config.seed = 0  # Of parameters, data order, noise; runs repeat exactly.
  config.dtype = "bfloat16"  # Of matrix products: 'bfloat16' or 'float32'.

  config.data = ConfigDict(
    dict(
      name="",  # Data set and its config, 'maze/64px_300frames'.
      data_dir="",  # Where data sets are; '' is $VDM_JAX_DATA or ~/vdm_jax_data.
      frame_shape=(64, 64, 3),  # Height, width, channels of the built data set.
      num_threads=8,  # Batches that are read at the same time, per process.
      prefetch_mb=512,  # Host memory for batches read ahead, per process.
      text_encoder="",  # For 'tokens': 'bytes' or 'bert:NAME_OR_FOLDER'.
      max_tokens=0,  # For 'tokens': a caption is cut or padded to it.
    )
  )
  config.task = joint_images()
  config.model = ConfigDict(
    dict(
      channels=256,  # Base width; level l has channels * channel_mults[l].
      channel_mults=(1, 2, 4, 8),  # One a resolution, finest first.
      blocks=2,  # Residual blocks per resolution.
      attention_resolutions=(8, 16, 32),  # Heights in pixels with attention.
      head_dim=64,  # Width of an attention head.
      embedding_dim=1024,  # Width of the embedding of log SNR and signals.
      mlp_layers=4,  # Depth of its MLP.
      dropout=0.0,  # In the residual blocks.
      num_labels=0,  # Classes; 0 takes no label.
      token_dim=0,  # Width of text tokens; 0 takes no text.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      conv_time=False,  # Ours: convolutions see the frames next to each.
      cond_drop=0.1,  # How often training hides the signals; our choice.
      # What the backward pass computes again, to save memory: 'none', 'dots', 'block'.
      remat="none",
      attention="auto",  # Over space: 'auto', 'xla', 'chunked', 'cudnn'.
    )
  )
  config.diffusion = ConfigDict(
    dict(
      schedule="cosine",  # Or lists of steps: 'linear_steps', 'cosine_steps'.
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=0.0,  # Added to log SNR; 2 log(64 / height) for larger frames.
      predict="eps",  # What the network's output is: 'eps', 'v' or 'x'.
      loss_space="eps",  # In which of them the error is taken.
      # Of noise levels, on top of loss_space: 'simple', 'snr', 'truncated_snr',
      # 'min_snr', 'p2'.
      weighting="simple",
      norm="l2",  # 'l2' or 'l1'.
      # Training adds noise to given frames, of a standard deviation drawn evenly from 0
      # to this: what a long video is given is the model's own, and worn.
      given_noise=0.0,
    )
  )
  config.optimizer = ConfigDict(
    dict(
      # 'adamw' has weight decay; 'muon' orthogonalises the updates of kernels.
      name="adam",
      learning_rate=3e-4,
      b1=0.9,
      b2=0.99,
      eps=1e-8,
      weight_decay=0.0,  # On kernels alone.
      warmup_steps=1000,  # Linear; our choice.
      # After it: 'constant', 'cosine', 'linear', 'exponential'; our choice.
      decay="constant",
      # What 'cosine' and 'linear' go by: 'steps' of num_steps, or the 'time' of
      # max_seconds; then a run is not repeated exactly.
      decay_by="steps",
      clip_norm=1.0,  # Of the whole gradient, 0 for none; our choice.
    )
  )
  config.train = ConfigDict(
    dict(
      batch_size=128,  # Of all processes together, in videos.
      num_steps=100_000,
      # Stop after so many seconds in all, calls before included; 0 for never.
      max_seconds=0.0,
      accumulate=1,  # Micro-batches per step.
      ema=(0.9999,),  # Rates of the averages; sampling uses the first.
      log_every=100,
      eval_every=5000,  # Steps between losses on held-out videos; 0 for never.
      eval_batches=8,
      # Steps between FVDs of samples, 0 for never: preset tfhub, of so many clips.
      eval_fvd_every=0,
      eval_fvd_clips=64,
      best_by="loss",  # Which checkpoint `best/` keeps: 'loss' or 'fvd', of these.
      sample_every=5000,  # Steps between sample grids; 0 for never.
      num_samples=8,
      checkpoint_every=1000,
      keep_last=3,  # Checkpoints kept.
      keep_every=0,  # And for good, every so many steps; 0 for none.
      max_bad_steps=20,  # Skipped (not finite) in a row before the run stops.
    )
  )
  # How devices share the work: 'data' splits batches, 'fsdp' batches and state.
  # -1 is all devices that remain.
  config.mesh = ConfigDict(dict(data=-1, fsdp=1))
  config.sampling = ConfigDict(
    dict(
      sampler="ancestral",  # 'ancestral', 'langevin', 'ddim', 'dpmpp_2m'.
      steps=256,  # N of the grid in time; 'langevin' makes 2 N - 1 network calls.
      respacing="",  # Instead, of a discrete schedule: 'ddim50' or '10,15,20'.
      gamma=0.1,  # Variance from its lower (0) to its upper bound (1).
      eta=0.0,  # Noise of 'ddim'; 1 is ancestral with gamma 0.
      langevin_delta=0.1,  # Step size of 'langevin'.
      threshold="static",  # Of estimated pixels: 'none', 'static', 'dynamic'.
      percentile=0.995,  # Of 'dynamic'.
      # w of (1 + w) eps(z, c) - w eps(z): 0 is unguided. Tables in the paper
      # count from 1: their "guidance weight 1.0" is w = 0.
      guidance=0.0,
      reconstruction_weight=0.0,  # Of reconstruction guidance, for given frames.
      resample=1,  # Times each step is taken where frames are given (RePaint).
      restore_given=True,  # Given frames come back as they were given.
    )
  )
  # In which order longer videos are sampled: a name of `vdm-jax plan list`, and its
  # options.
  config.plan = ConfigDict(dict(name="blocks"))
  # The slice that `vdm-jax preflight` compiles for, GENERATION:CHIPS ("v4:4x4x8").
  config.preflight = ConfigDict(dict(topology="v5e:2x2"))
  return config


def joint_images(
  num_frames: int = 16, num_images: int = 8, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Task: a clip and independent images, frames of other videos."""
  return ConfigDict(
    dict(
      name="joint_images",
      num_frames=num_frames,  # Of the clip.
      num_images=num_images,  # Beside it.
      stride=stride,  # Source frames from one frame of the clip to the next.
      flip=flip,  # Mirror half of the examples left-right.
    )
  )


def unconditional(
  num_frames: int = 16, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Task: clips alone."""
  return ConfigDict(
    dict(name="unconditional", num_frames=num_frames, stride=stride, flip=flip)
  )


def arguments(arg: str | None, **defaults):
  """Values of a config's argument, `--config=FILE:key=value,key=value`.

  Args:
    arg: what follows the colon; None or '' for nothing.
    **defaults: the keys there are; a value is read as its default's type.

  Raises:
    ValueError: there is no such key, or the value is of another type.
  """
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    key, equals, text = part.partition("=")
    if not equals or key not in defaults:
      raise ValueError(
        f"config argument {part!r}: expected KEY=VALUE with a key of "
        f"{', '.join(sorted(defaults)) or 'none (this config takes no argument)'}"
      )
    kind = type(defaults[key])
    try:
      values[key] = kind(text)
    except ValueError:
      raise ValueError(
        f"config argument {key}: expected a value of type {kind.__name__}, "
        f"found {text!r}"
      ) from None
  return values


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
  config = base()
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


def random_mask(
  num_frames: int = 16,
  max_observed: int = 4,
  uncondition_rate: float = 0.25,
  mask_range: tuple[int, ...] = (),
  stride: int = 1,
  flip: bool = False,
) -> ConfigDict:
  """Task: a random set of a clip's frames is given (RaMViD)."""
  return ConfigDict(
    dict(
      name="random_mask",
      num_frames=num_frames,
      max_observed=max_observed,  # K: 1 to K frames are given ...
      uncondition_rate=uncondition_rate,  # ... but none this often: p_U.
      mask_range=mask_range,  # (first, one past the last) that may be given; () is all.
      stride=stride,
      flip=flip,
    )
  )


def past_future(
  num_past: int,
  num_current: int,
  num_future: int = 0,
  drop_past: float = 0.0,
  drop_future: float = 0.0,
) -> ConfigDict:
  """Task: the frames between past and future, each given or not (MCVD)."""
  return ConfigDict(
    dict(
      name="past_future",
      num_past=num_past,
      num_current=num_current,  # Always sampled.
      num_future=num_future,
      drop_past=drop_past,  # How often the past is not given ...
      drop_future=drop_future,  # ... and the future, ...
      sync=False,  # ... both at once.
      stride=1,
      flip=False,
    )
  )


def ramvid_model() -> ConfigDict:
  """Network of RaMViD's published models."""
  return ConfigDict(
    dict(
      channels=128,  # Base width; a multiple of 32.
      channel_mults=(1, 2, 3, 4),
      blocks=2,
      attention_resolutions=(16, 8),  # Heights in pixels; always in the middle.
      num_heads=4,
      num_heads_upsample=0,  # On the way up; 0 is num_heads.
      scale_time_dim=0,  # Frames, to halve time with space; 0 takes any length.
      scale_shift=True,  # How the embedding enters residual blocks; False adds it.
      dropout=0.0,
      num_labels=0,
      show_given=False,  # Ours: frames see the given frames next to them.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      learn_variance=False,  # Predict the variance of the reverse process too.
      cond_drop=0.0,  # How often training hides the label.
      remat="none",
      attention="auto",
    )
  )


def linear_steps(where: str, normalise: str) -> ConfigDict:
  """Diffusion of FDM's and RaMViD's published models; they count frames differently."""
  return ConfigDict(
    dict(
      schedule="linear_steps",
      num_steps=1000,
      rescale_time=True,  # The network is told step * 1000 / num_steps.
      predict="eps",
      loss_space="eps",
      weighting="simple",
      norm="l2",
      where=where,  # Frames that count: 'latent', 'unobserved' (padding too), 'all'.
      normalise=normalise,  # Mean over those: 'selected', 'example'; or over 'all'.
      kind="mse",  # 'kl' is the bound; FDM's authors count where='all' in it.
      gamma=1.0,  # Fixed variance: 0 the posterior's, 1 beta.
      given_noise=0.0,  # On given frames, see `base`.
    )
  )


def ramvid_diffusion() -> ConfigDict:
  """Diffusion and objective of RaMViD's published models."""
  # Given frames do not count, and each example is averaged over its others. 'all' and
  # 'all' is the authors' exclude_conditional=False.
  return linear_steps(where="latent", normalise="example")


def ramvid(num_frames: int = 16, uncondition_rate: float = 0.25) -> ConfigDict:
  """RaMViD as its authors train it; data are left to the config.

  Our choice, where it is not theirs: bfloat16, and how often it is reported.
  """
  config = base()
  config.system = "ramvid"
  config.task = random_mask(num_frames, uncondition_rate=uncondition_rate)
  config.model = ramvid_model()
  config.diffusion = ramvid_diffusion()
  config.optimizer.update(
    dict(name="adamw", learning_rate=2e-5, b2=0.999, warmup_steps=0, clip_norm=1.0)
  )
  config.train.update(dict(batch_size=64, num_steps=500_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=1000, gamma=1.0))
  # Beyond a window: the last 5 frames are given to the next, as the authors do.
  config.plan = ConfigDict(dict(name="blocks", overlap=5))
  config.preflight.topology = "v5e:2x4"
  return config


def random_subsets(
  max_frames: int = 20, clip_length: int = 1000, padding: str = "random"
) -> ConfigDict:
  """Task: any frames of a long video from any others (FDM)."""
  return ConfigDict(
    dict(
      name="random_subsets",
      max_frames=max_frames,  # Of a window, padding included.
      clip_length=clip_length,  # Frames that a window is chosen from; more than it has.
      padding=padding,  # 'random', frames of another video; or 'first'.
    )
  )


def plan_stages(
  length: int,
  num_obs: int,
  max_frames: int,
  step_size: int,
  plan_names=("hierarchy-2",),
) -> ConfigDict:
  """Task: the stages of some plans, at any place of a video; not FDM's own."""
  return ConfigDict(
    dict(
      name="plan_stages",
      plan_names=tuple(plan_names),
      length=length,  # Frames of the videos that will be sampled.
      num_obs=num_obs,  # Of which the first so many are given.
      max_frames=max_frames,  # Of a window, padding included.
      options=dict(step_size=step_size),  # Of the plans.
    )
  )


def fdm_model() -> ConfigDict:
  """Network of FDM for frames of 64 pixels, as its authors build it."""
  return ConfigDict(
    dict(
      channels=128,  # Base width; a multiple of 32.
      channel_mults=(1, 2, 3, 4),
      blocks=2,
      attention_resolutions=(16, 8),  # Heights in pixels; always in the middle.
      num_heads=4,
      num_heads_upsample=0,  # On the way up; 0 is num_heads.
      scale_shift=True,  # How the embedding enters residual blocks; False adds it.
      # Norms over time see padding, too, as in the authors' code; their weights want
      # it so. False keeps padding from reaching real frames at all.
      padding_in_norm=True,
      dropout=0.0,
      show_given=False,  # Ours: frames see the given frames next to them in time.
      pool_given=False,  # Ours: frames are told what all given frames look like.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      learn_variance=False,  # Predict the variance of the reverse process too.
      remat="none",
      attention="auto",
    )
  )


def fdm_diffusion() -> ConfigDict:
  """Diffusion and objective of FDM, as its authors train it."""
  # All frames that are not given count, padding too; the mean is over all frames of a
  # window, those given as zeros. 'latent' leaves padding out.
  return linear_steps(where="unobserved", normalise="all")


def fdm(clip_length: int, max_frames: int = 20) -> ConfigDict:
  """FDM as its authors train it; data are left to the config.

  Our choice, where it is not theirs: bfloat16, how often it is reported, and a batch of
  8, one video for each chip of a small slice (theirs is 2 or 1, on one GPU).
  """
  config = base()
  config.system = "fdm"
  config.task = random_subsets(max_frames, clip_length)
  config.model = fdm_model()
  config.diffusion = fdm_diffusion()
  config.optimizer.update(
    dict(name="adam", learning_rate=1e-4, b2=0.999, warmup_steps=0, clip_norm=0.0)
  )
  config.train.update(dict(batch_size=8, ema=(0.9999,), sample_every=20_000))
  config.sampling.update(dict(sampler="ancestral", steps=1000, gamma=1.0))
  # The plan of their best results: half of a window is sampled at a time.
  config.plan = ConfigDict(
    dict(name="hierarchy-2", max_frames=max_frames, step_size=max_frames // 2)
  )
  config.preflight.topology = "v5e:2x4"
  return config


def fdm_small(
  clip_length: int, num_obs: int, plan_names: tuple[str, ...]
) -> ConfigDict:
  """FDM for frames of 16x16 and a CPU, all of it our choice (docs/fdm.md); no data.

  Minutes of training are enough because x is predicted, at lower log SNRs; the network
  works on patches of 2x2 pixels; every frame is shown the given frames next to it and
  told what all of them look like; stages sample two frames, and windows of the plans
  are all that is trained; given frames are noisy in training, as in a long video they
  are the model's own; Muon trains it; padding reaches no other frame.
  """
  config = fdm(clip_length, max_frames=8)
  config.dtype = "float32"
  config.data.update(dict(num_threads=2, prefetch_mb=64))
  config.task = plan_stages(
    length=100, num_obs=num_obs, max_frames=8, step_size=2, plan_names=plan_names
  )
  config.model.update(
    dict(
      patch=2,
      show_given=True,
      pool_given=True,
      channels=32,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(4,),
      padding_in_norm=False,
    )
  )
  config.diffusion.update(
    dict(
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=-3.0,
      predict="x",
      loss_space="x",
      where="latent",
      normalise="selected",
      given_noise=0.3,
    )
  )
  config.optimizer.update(
    dict(name="muon", learning_rate=5e-3, b2=0.99, warmup_steps=50, clip_norm=1.0)
  )
  config.train.update(
    dict(
      batch_size=8,
      num_steps=20_000,
      ema=(0.995,),
      log_every=20,
      eval_every=1000,
      eval_batches=4,
      sample_every=1000,
      num_samples=4,
      checkpoint_every=250,
    )
  )
  config.sampling.update(dict(sampler="ddim", steps=15))
  config.plan = ConfigDict(dict(name=plan_names[0], max_frames=8, step_size=2))
  config.preflight.topology = "v5e:2x2"
  return config
