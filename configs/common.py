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
      name="",  # Data set and its config, 'video_folder/ucf101'.
      data_dir="",  # Where data sets are built; '' is TFDS's default folder.
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
      cond_drop=0.1,  # How often training hides the signals; our choice.
      remat="none",  # What the backward pass computes again, to save memory.
      attention="auto",  # Implementation of attention over space.
    )
  )
  config.diffusion = ConfigDict(
    dict(
      schedule="cosine",
      logsnr_min=-20.0,
      logsnr_max=20.0,
      logsnr_shift=0.0,  # Added to log SNR; 2 log(64 / height) for larger frames.
      predict="eps",  # What the network's output is: 'eps', 'v' or 'x'.
      loss_space="eps",  # In which of them the error is taken.
      weighting="simple",  # Of noise levels, on top of loss_space.
      norm="l2",  # 'l2' or 'l1'.
    )
  )
  config.optimizer = ConfigDict(
    dict(
      name="adam",  # 'adamw' for weight decay.
      learning_rate=3e-4,
      b1=0.9,
      b2=0.99,
      eps=1e-8,
      weight_decay=0.0,  # On kernels alone.
      warmup_steps=1000,  # Linear; our choice.
      decay="constant",  # After it: 'constant', 'cosine', 'linear'; our choice.
      clip_norm=1.0,  # Of the whole gradient, 0 for none; our choice.
    )
  )
  config.train = ConfigDict(
    dict(
      batch_size=128,  # Of all processes together, in videos.
      num_steps=100_000,
      max_seconds=0.0,  # Stop after so long, whatever num_steps says; 0 for never.
      accumulate=1,  # Micro-batches per step.
      ema=(0.9999,),  # Rates of the averages; sampling uses the first.
      log_every=100,
      eval_every=5000,  # Steps between losses on held-out videos; 0 for never.
      eval_batches=8,
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
      steps=256,  # Of the grid in time; 'langevin' calls the network twice in each.
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
