"""Common parts of RaMViD's configs: task, network, diffusion and training."""

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
  """Makes the task in which a random set of a clip's frames is given (RaMViD)."""
  return ConfigDict(
    dict(
      name="random_mask",
      num_frames=num_frames,
      max_observed=max_observed,  # Largest number K of given frames.
      uncondition_rate=uncondition_rate,  # Probability p_U that none is given.
      mask_range=mask_range,  # (first, one past the last) that may be given; () is all.
      stride=stride,
      flip=flip,
    )
  )


def ramvid_model() -> ConfigDict:
  """Makes the network of RaMViD's published models."""
  return common.improved_unet(
    scale_time_dim=0,  # Frames of a clip, to halve time, too; 0 takes any length.
    num_labels=0,
    cond_drop=0.0,  # Probability that training hides the label.
  )


def ramvid_diffusion() -> ConfigDict:
  """Makes diffusion and objective of RaMViD's published models."""
  # Given frames do not count, and each example is averaged over its other frames. The
  # authors' exclude_conditional=False is 'all' for both.
  return common.linear_steps(where="latent", normalise="example")


def ramvid(num_frames: int = 16, uncondition_rate: float = 0.25) -> ConfigDict:
  """Makes RaMViD's config as its authors train it, without data.

  Our choices, where they differ: bfloat16, and how often it reports.
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
  # Beyond a window, the last 5 frames are given to the next one, as the authors do.
  config.plan = ConfigDict(dict(name="blocks", overlap=5))
  config.preflight.topology = "v5e:2x4"
  return config


def ramvid_small(
  data: str, frame_shape: tuple[int, int, int], channels: int
) -> ConfigDict:
  """Makes RaMViD's config for small frames and a CPU, our choice (docs/ramvid.md).

  A quarter of an hour suffices because x is predicted, at lower log SNRs; the network
  works on patches of 2x2 pixels, takes the nearest given frames as input of each frame,
  and has attention at its coarser level; and Muon trains it.
  """
  config = ramvid()
  common.small(config, data, frame_shape)
  # Fewer given frames than the paper's 4, so that more has to be learnt.
  config.task = random_mask(8, 3, 0.05)
  common.small_improved_unet(config, channels)
  config.diffusion.update(common.x_at_low_logsnr())
  config.sampling.update(dict(sampler="ddim", steps=25))
  # Without given frames after it, a window keeps only its next two frames.
  config.plan.update(dict(overlap=3, keep=2))
  return config
