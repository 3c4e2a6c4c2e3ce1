"""Every field of a config, with its default and what it means.

A config file starts from `base()` and changes what differs:

    from vdm_jax.configs import common

    config = common.base()

A copy of it elsewhere does the same: `--config=path/to/own.py`.

What the models of one paper share is in common_fdm.py, common_ramvid.py and
common_rvd.py.

Where VDM's paper names a value that all of its models share, that value is the
default; where it is silent, the comment says "our choice".
"""

from ml_collections import ConfigDict

from vdm_jax import key_values


def base() -> ConfigDict:
  """All fields with their defaults."""
  config = ConfigDict()
  # Which paper: a name in vdm_jax.systems, or a function of your own, 'module:function'
  # or 'file.py:function' (docs/add_a_paper.md).
  config.system = "vdm"
  config.seed = 0  # Of parameters, data order, noise; runs repeat exactly.
  config.dtype = "bfloat16"  # Of matrix products: 'bfloat16' or 'float32'.

  config.data = ConfigDict(
    dict(
      name="",  # Data set and its config, 'maze/64px_300frames'.
      data_dir="",  # Where data sets are; '' is $VDM_JAX_DATA or ~/vdm_jax_data.
      frame_shape=(64, 64, 3),  # Height, width, channels, as the model sees them.
      pool=0,  # 2: frames are averaged over 2x2 pixels first; 0: as they were built.
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
      # What the backward pass computes again, to save memory: 'none', 'block', or a
      # block but for its 'convolutions'.
      remat="none",
      # Over space: 'auto', 'xla', 'chunked', 'splash', 'cudnn'.
      attention="auto",
      # Over time: 'xla'; on a TPU also 'pallas', a kernel that no TPU has timed yet.
      time_attention="xla",
    )
  )
  config.diffusion = ConfigDict(
    dict(
      # 'cosine'; 'straight', of rectified flow; lists of steps: 'linear_steps',
      # 'cosine_steps'.
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=0.0,  # Added to log SNR; 2 log(64 / height) for larger frames.
      predict="eps",  # What the network's output is: 'eps', 'v', 'x' or 'flow'.
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
      # Steps skipped (not finite) in a row that stop the run; seen when it logs, or
      # after a hundred steps. 0 for never.
      max_bad_steps=20,
    )
  )
  # How devices share the work: 'data' splits batches, 'fsdp' batches and state.
  # -1 is all devices that remain.
  config.mesh = ConfigDict(
    dict(
      data=-1,
      fsdp=1,
      # With fsdp > 1, weights are gathered once a 'step', or at each 'use': slower, and
      # no device holds all of them at once.
      gather="step",
      # Who holds what, before the rule that the longest axis is split: pairs of a
      # pattern, searched in 'params/backbone/head/kernel', and the number of an axis,
      # 'longest' or 'whole'.
      rules=(),
    )
  )
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
      method="",  # For given frames: 'replacement', 'reconstruction'; '' by the weight.
      reconstruction_weight=0.0,  # Of reconstruction guidance, for given frames.
      super_resolution_weight=0.0,  # Towards low resolution; 0: pixels made into one.
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


def improved_unet(**changes) -> ConfigDict:
  """Network of FDM's and RaMViD's published models, both of improved-diffusion's code.

  Args:
    **changes: fields that only one of them has, or has otherwise.
  """
  config = ConfigDict(
    dict(
      channels=128,  # Base width; a multiple of 32.
      channel_mults=(1, 2, 3, 4),
      blocks=2,
      attention_resolutions=(16, 8),  # Heights in pixels; always in the middle.
      num_heads=4,
      num_heads_upsample=0,  # On the way up; 0 is num_heads.
      scale_shift=True,  # How the embedding enters residual blocks; False adds it.
      dropout=0.0,
      show_given=False,  # Ours: frames see the given frames next to them in time.
      patch=1,  # Ours: pixels along an edge of the patches that the levels are made of.
      learn_variance=False,  # Predict the variance of the reverse process too.
      remat="none",
      attention="auto",
    )
  )
  config.update(changes)
  return config


def small_improved_unet(config: ConfigDict, channels: int, **changes) -> None:
  """Sets FDM's or RaMViD's network for a CPU (docs/fdm.md, docs/ramvid.md), in place.

  The levels are made of patches of 2x2 pixels, places of the coarser one attend, and
  every frame is shown the given frames next to it.
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


def small_vdm(config: ConfigDict, channels: int) -> None:
  """Sets network and sampling of VDM for a CPU (docs/vdm.md), in place.

  The levels are made of patches of 2x2 pixels, places of the coarser one attend, and
  convolutions see the frames next to each.
  """
  config.model.update(
    dict(
      patch=2,
      conv_time=True,
      channels=channels,
      channel_mults=(1, 2),
      blocks=1,
      attention_resolutions=(config.data.frame_shape[0] // 4,),
      head_dim=32,
      embedding_dim=128,
      mlp_layers=2,
    )
  )
  config.diffusion.update(dict(predict="v", loss_space="v"))
  config.sampling.update(dict(sampler="ancestral", steps=64))


def small(config: ConfigDict, data: str, frame_shape: tuple[int, int, int]) -> None:
  """What configs for a CPU share, all of it our choice: minutes of training tell.

  Args:
    config: of a system, changed in place.
    data: data set and its config.
    frame_shape: of it.
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
  """Diffusion of small networks that are given frames; fields of `config.diffusion`.

  What a digit looks like is decided at log SNRs where little of a frame is to be seen:
  half of the levels are below -3, in training and in sampling.
  """
  return dict(
    schedule="cosine",
    logsnr_min=-20.0,
    logsnr_max=20.0,
    logsnr_shift=-3.0,
    predict="x",
    loss_space="x",
  )
