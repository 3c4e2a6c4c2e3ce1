"""The fields of a config, with their defaults and meanings.

A config file starts from `base()` and changes what differs:

    from vdm_jax.configs import common

    config = common.base()

A copy elsewhere works, too: `--config=path/to/own.py`.

Fields of task, model and diffusion that another paper has instead are explained in
common_fdm.py, common_ramvid.py and common_rvd.py, beside what its models share.

If VDM's paper states a value that all of its models share, it is the default; where the
paper is silent, the comment says "our choice".
"""

from ml_collections import ConfigDict

from vdm_jax import key_values


def base() -> ConfigDict:
  """Makes a config of all fields with their defaults."""
  config = ConfigDict()
  # Which paper: a name in vdm_jax.systems, or a function of your own, 'module:function'
  # or 'file.py:function' (docs/add_a_paper.md).
  config.system = "vdm"
  config.seed = 0  # Seed of parameters, data order and noise; runs repeat exactly.
  config.dtype = "bfloat16"  # Dtype of matrix products: 'bfloat16' or 'float32'.

  config.data = ConfigDict(
    dict(
      name="",  # Data set and its config, 'maze/64px_300frames'.
      data_dir="",  # Folder of data sets; '' is $VDM_JAX_DATA or ~/vdm_jax_data.
      frame_shape=(64, 64, 3),  # Height, width, channels, as the model sees them.
      pool=0,  # 2 averages frames over 2x2 pixels first; 0 keeps them as built.
      num_threads=8,  # Number of batches read at the same time, per process.
      prefetch_mb=512,  # Megabytes of host memory for batches read ahead, per process.
      text_encoder="",  # For 'tokens': 'minilm', 'bytes' or 'bert:FOLDER_OR_NAME'.
      max_tokens=0,  # For 'tokens': number to which captions are cut or padded.
    )
  )
  config.task = joint_images()
  config.model = ConfigDict(
    dict(
      channels=256,  # Base width; level l has channels * channel_mults[l].
      channel_mults=(1, 2, 4, 8),  # One per resolution, finest first.
      blocks=2,  # Residual blocks per resolution.
      attention_resolutions=(8, 16, 32),  # Heights, in pixels, with attention.
      head_dim=64,  # Width of an attention head.
      embedding_dim=1024,  # Width of the embedding of log SNR and signals.
      mlp_layers=4,  # Depth of the MLP of this embedding.
      dropout=0.0,  # Dropout rate in the residual blocks.
      num_labels=0,  # Number of classes; 0 takes no label.
      token_dim=0,  # Width of text tokens; 0 takes no text.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      conv_time=False,  # Ours: convolutions mix neighbouring frames.
      cond_drop=0.1,  # Probability that training hides the signals; our choice.
      # What the backward pass recomputes, to save memory: 'none', a whole 'block', or a
      # block without its 'convolutions'.
      remat="none",
      # Attention over space: 'auto', 'xla', 'chunked', 'splash', 'cudnn'.
      attention="auto",
      # Attention over time: 'xla'; on a TPU also 'pallas', not yet timed on one.
      time_attention="xla",
    )
  )
  config.diffusion = ConfigDict(
    dict(
      # Continuous: 'cosine', or 'straight' for rectified flow. Discrete:
      # 'linear_steps', 'cosine_steps'; see `linear_steps` below for their fields.
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=0.0,  # Added to log SNR; 2 log(64 / height) for larger frames.
      predict="eps",  # What the network predicts: 'eps', 'v', 'x' or 'flow'.
      loss_space="eps",  # In which of these the error is measured.
      # Weighting of noise levels, beside loss_space: 'simple', 'snr', 'truncated_snr',
      # 'min_snr', 'p2'.
      weighting="simple",
      norm="l2",  # 'l2' or 'l1'.
      # Training adds noise to given frames, with a standard deviation drawn uniformly
      # from 0 to this, as long videos are given the model's own, imperfect frames.
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
      # Of 'adamw' alone; acts on what has more than one axis: kernels, tables of
      # embeddings and relative positions, the query of a pool.
      weight_decay=0.0,
      warmup_steps=1000,  # Linear; our choice.
      # After warm-up: 'constant', 'cosine', 'linear'; our choice. 'exponential' has the
      # three fields below.
      decay="constant",
      # Of 'exponential': steps before it begins, factor of a step, share that is left.
      decay_begin=0,
      decay_rate=0.9999,
      decay_floor=0.0,
      # Progress for 'cosine' and 'linear': 'steps' of num_steps, or 'time' of
      # max_seconds, with which a run does not repeat exactly.
      decay_by="steps",
      clip_norm=1.0,  # Largest norm of the whole gradient, 0 for none; our choice.
    )
  )
  config.train = ConfigDict(
    dict(
      batch_size=128,  # Videos per step, over all processes.
      num_steps=100_000,
      # Total seconds after which to stop, earlier calls included; 0 for never.
      max_seconds=0.0,
      accumulate=1,  # Micro-batches per step.
      ema=(0.9999,),  # Rates of the averages; sampling uses the first.
      log_every=100,
      # Steps between losses on held-out videos; 0 for one when the run is finished.
      eval_every=5000,
      eval_batches=8,  # Batches of a loss on held-out videos; 0 for no such losses.
      # Steps between FVDs of samples (preset tfhub), 0 for never; and clips for each.
      eval_fvd_every=0,
      eval_fvd_clips=64,
      best_by="loss",  # Which checkpoint is best: by 'loss' or 'fvd' of these.
      # Steps between sample grids; 0 for one when the run is finished.
      sample_every=5000,
      num_samples=8,  # Videos of a grid; 0 for no grids at all.
      checkpoint_every=1000,
      keep_last=3,  # Number of newest checkpoints to keep.
      keep_every=0,  # Steps between checkpoints that are kept for good; 0 for none.
      # Number of skipped (non-finite) steps in a row that stop the run, which checks
      # when it logs, or after a hundred steps; 0 for never.
      max_bad_steps=20,
    )
  )
  # How devices share the work: 'data' splits batches, 'fsdp' batches and state.
  # -1 takes all remaining devices.
  config.mesh = ConfigDict(
    dict(
      data=-1,
      fsdp=1,
      # With fsdp > 1, weights are gathered once per 'step', or at each 'use', which is
      # slower, but no device holds all of them at once.
      gather="step",
      # Sharding rules that precede the default, by which the longest axis is split:
      # pairs of a pattern, searched for in 'params/backbone/head/kernel', and the
      # number of an axis, 'longest' or 'whole'.
      rules=(),
    )
  )
  config.sampling = ConfigDict(
    dict(
      sampler="ancestral",  # 'ancestral', 'langevin', 'ddim', 'dpmpp_2m'.
      steps=256,  # Intervals N of the grid; 'langevin' makes 2 N - 1 network calls.
      respacing="",  # Replaces steps of a discrete schedule: 'ddim50' or '10,15,20'.
      gamma=0.1,  # Variance, from its lower (0) to its upper bound (1).
      eta=0.0,  # Noise of 'ddim'; 1 is ancestral with gamma 0.
      langevin_delta=0.1,  # Step size of 'langevin'.
      threshold="static",  # Threshold of estimated pixels: 'none', 'static', 'dynamic'.
      percentile=0.995,  # Quantile of 'dynamic'.
      # w in (1 + w) eps(z, c) - w eps(z); 0 is unguided. Tables in the paper count from
      # 1: their "guidance weight 1.0" is w = 0.
      guidance=0.0,
      method="",  # For given frames: 'replacement', 'reconstruction'; '' by weight.
      reconstruction_weight=0.0,  # Weight of reconstruction guidance, for given frames.
      super_resolution_weight=0.0,  # Towards low resolution; 0: pixels averaged.
      resample=1,  # How often each step is taken if frames are given (RePaint).
      restore_given=True,  # Whether given frames are returned as they were given.
    )
  )
  # Order in which longer videos are sampled: a name of `vdm-jax plan list`, and its
  # options.
  config.plan = ConfigDict(dict(name="blocks"))
  # The slice that `vdm-jax preflight` compiles for, GENERATION:CHIPS ("v4:4x4x8").
  config.preflight = ConfigDict(dict(topology="v5e:2x2"))
  return config


def joint_images(
  num_frames: int = 16, num_images: int = 8, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Makes the task of a clip and independent images, frames of other videos."""
  return ConfigDict(
    dict(
      name="joint_images",
      num_frames=num_frames,  # Frames of the clip.
      num_images=num_images,  # Number of independent images.
      stride=stride,  # Distance between frames of the clip, in source frames.
      flip=flip,  # Whether to mirror half of the examples left-right.
    )
  )


def unconditional(
  num_frames: int = 16, stride: int = 1, flip: bool = False
) -> ConfigDict:
  """Makes the task of clips only."""
  return ConfigDict(
    dict(name="unconditional", num_frames=num_frames, stride=stride, flip=flip)
  )


def past_future(
  num_past: int,
  num_current: int,
  num_future: int = 0,
  drop_past: float = 0.0,
  drop_future: float = 0.0,
) -> ConfigDict:
  """Makes the task of frames between past and future, each given or not (MCVD)."""
  return ConfigDict(
    dict(
      name="past_future",
      num_past=num_past,
      num_current=num_current,  # Frames that are always sampled.
      num_future=num_future,
      drop_past=drop_past,  # Probability that the past is not given.
      drop_future=drop_future,  # Probability that the future is not given.
      sync=False,  # Whether both are dropped together.
      stride=1,
      flip=False,
    )
  )


def arguments(arg: str | None, **defaults):
  """Parses the argument of a config, `--config=FILE:key=value,key=value`.

  Args:
    arg: text after the colon; None or '' for none.
    **defaults: the keys with their defaults, whose types values are converted to.

  Raises:
    ValueError: there is no such key, or the value is of another type.
  """
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    key, text = key_values.split(part, "config argument", defaults)
    kind = type(defaults[key])
    try:
      values[key] = kind(text)
    except ValueError:
      raise ValueError(
        f"config argument {key}: expected a value of type {kind.__name__}, "
        f"found {text!r}"
      ) from None
  return values


def linear_steps(where: str, normalise: str) -> ConfigDict:
  """Makes the diffusion of FDM's and RaMViD's models, which count different frames."""
  return ConfigDict(
    dict(
      # 'cosine_steps' may also have `cosine_s` (0.008), its offset at step 0, and
      # `max_beta` (0.999), at which its betas stop.
      schedule="linear_steps",
      num_steps=1000,  # Number of noise levels.
      rescale_time=True,  # Whether the time input is step * 1000 / num_steps.
      predict="eps",
      loss_space="eps",
      weighting="simple",
      norm="l2",
      where=where,  # Frames that count: 'latent', 'unobserved' (with padding), 'all'.
      normalise=normalise,  # Mean over these: 'selected', 'example'; or over 'all'.
      kind="mse",  # 'kl' is the bound, in which FDM's authors count where='all'.
      gamma=1.0,  # Fixed variance: 0 is the posterior's, 1 is beta.
      given_noise=0.0,  # Noise on given frames, see `base`.
    )
  )


def improved_unet(**changes) -> ConfigDict:
  """Makes the network of FDM's and RaMViD's models, both from improved-diffusion.

  Args:
    **changes: fields that only one of them has, or that differ.
  """
  config = ConfigDict(
    dict(
      channels=128,  # Base width, a multiple of 32.
      channel_mults=(1, 2, 3, 4),
      blocks=2,
      attention_resolutions=(16, 8),  # Heights in pixels; the middle always has it.
      num_heads=4,
      num_heads_upsample=0,  # Heads on the way up; 0 is num_heads.
      scale_shift=True,  # Whether the embedding scales and shifts; False adds it.
      dropout=0.0,
      show_given=False,  # Ours: each frame's input has the nearest given frames.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      learn_variance=False,  # Whether to predict the reverse process's variance.
      remat="none",
      attention="auto",
    )
  )
  config.update(changes)
  return config


def small_improved_unet(config: ConfigDict, channels: int, **changes) -> None:
  """Sets FDM's or RaMViD's network for a CPU (docs/fdm.md, docs/ramvid.md), in place.

  The network works on patches of 2x2 pixels, has attention at its coarser level, and
  takes the nearest given frames as input of each frame.
  """
  config.model.update(
    dict(
      patch=2,
      show_given=True,
      channels=channels,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(config.data.frame_shape[0] // 4,),
      **changes,
    )
  )


def small(config: ConfigDict, data: str, frame_shape: tuple[int, int, int]) -> None:
  """Sets what all configs for a CPU have in common, all of it our choice.

  Args:
    config: config of a system, changed in place.
    data: data set and its config.
    frame_shape: height, width and channels of its frames.
  """
  config.dtype = "float32"
  config.data.update(
    dict(name=data, frame_shape=frame_shape, num_threads=2, prefetch_mb=64)
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
  config.preflight.topology = "v5e:2x2"


def x_at_low_logsnr() -> dict:
  """Makes the diffusion of small networks that are given frames.

  These are fields of `config.diffusion`. The shape of a digit is decided at log SNRs
  where little of a frame is visible, so half of the levels are below -3, in training
  and in sampling.
  """
  return dict(
    schedule="cosine",
    logsnr_min=-20.0,
    logsnr_max=20.0,
    logsnr_shift=-3.0,
    predict="x",
    loss_space="x",
  )
