"""What the configs of RaMViD share: task, network, diffusion and training."""

from ml_collections import ConfigDict

from vdm_jax.configs import common


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
  return common.improved_unet(
    scale_time_dim=0,  # Frames, to halve time with space; 0 takes any length.
    num_labels=0,
    cond_drop=0.0,  # How often training hides the label.
  )


def ramvid_diffusion() -> ConfigDict:
  """Diffusion and objective of RaMViD's published models."""
  # Given frames do not count, and each example is averaged over its others. 'all' and
  # 'all' is the authors' exclude_conditional=False.
  return common.linear_steps(where="latent", normalise="example")


def ramvid(num_frames: int = 16, uncondition_rate: float = 0.25) -> ConfigDict:
  """RaMViD as its authors train it; data are left to the config.

  Our choice, where it is not theirs: bfloat16, and how often it is reported.
  """
  config = common.base()
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


def ramvid_small(
  data: str, frame_shape: tuple[int, int, int], channels: int
) -> ConfigDict:
  """RaMViD for small frames and a CPU, all of it our choice (docs/ramvid.md).

  What makes a quarter of an hour enough: x is predicted, at lower log SNRs; the network
  works on patches of 2x2 pixels, every frame is shown the given frames next to it, and
  places of the coarser level attend; Muon trains it.
  """
  config = ramvid()
  common.small(config, data, frame_shape)
  # Fewer given frames than the paper's 4: the fewer, the more is to be learnt.
  config.task = random_mask(8, 3, 0.05)
  common.small_improved_unet(config, channels)
  config.diffusion.update(common.x_at_low_logsnr())
  config.sampling.update(dict(sampler="ddim", steps=25))
  # Of a window without frames after it, the two next ones are kept.
  config.plan.update(dict(overlap=3, keep=2))
  return config
