"""Common parts of FDM's configs: task, network, diffusion and training."""

from ml_collections import ConfigDict

from vdm_jax.configs import common


def random_subsets(
  max_frames: int = 20, clip_length: int = 1000, padding: str = "random"
) -> ConfigDict:
  """Makes the task of any frames of a long video given any others (FDM)."""
  return ConfigDict(
    dict(
      name="random_subsets",
      max_frames=max_frames,  # Frames of a window, padding included.
      clip_length=clip_length,  # Frames to choose a window from; more than its own.
      padding=padding,  # 'random' (frames of another video) or 'first'.
    )
  )


def plan_stages(
  length: int,
  num_obs: int,
  max_frames: int,
  step_size: int,
  plan_names=("hierarchy-2",),
) -> ConfigDict:
  """Makes the task of stages of plans, at any place of a video; it is ours."""
  return ConfigDict(
    dict(
      name="plan_stages",
      plan_names=tuple(plan_names),
      length=length,  # Frames of the videos that will be sampled.
      num_obs=num_obs,  # Number of given frames, at the start.
      max_frames=max_frames,  # Frames of a window, padding included.
      options=dict(step_size=step_size),  # Options of the plans.
    )
  )


def fdm_model() -> ConfigDict:
  """Makes FDM's network for frames of 64 pixels, as its authors build it."""
  return common.improved_unet(
    # Norms over time include padding, as in the authors' code, for which their weights
    # are trained. False keeps padding from any influence on real frames.
    padding_in_norm=True,
    pool_given=False,  # Ours: the embedding has features of all given frames.
  )


def fdm_diffusion() -> ConfigDict:
  """Makes FDM's diffusion and objective, as its authors train it."""
  # All frames that are not given count, even padding; the mean is over all frames of a
  # window, with given ones as zeros. 'latent' leaves padding out.
  return common.linear_steps(where="unobserved", normalise="all")


def fdm(clip_length: int, max_frames: int = 20) -> ConfigDict:
  """Makes FDM's config as its authors train it, without data.

  Our choices, where they differ: bfloat16, how often it reports, and a batch of 8, one
  video for each chip of a small slice (theirs is 2 or 1, on one GPU).
  """
  config = common.base()
  config.system = "fdm"
  config.task = random_subsets(max_frames, clip_length)
  config.model = fdm_model()
  config.diffusion = fdm_diffusion()
  config.optimizer.update(
    dict(name="adam", learning_rate=1e-4, b2=0.999, warmup_steps=0, clip_norm=0.0)
  )
  config.train.update(dict(batch_size=8, ema=(0.9999,), sample_every=20_000))
  config.sampling.update(dict(sampler="ancestral", steps=1000, gamma=1.0))
  # The plan of their best results, which samples half a window at a time.
  config.plan = ConfigDict(
    dict(name="hierarchy-2", max_frames=max_frames, step_size=max_frames // 2)
  )
  config.preflight.topology = "v5e:2x4"
  return config


def fdm_small(
  data: str,
  frame_shape: tuple[int, int, int],
  length: int,
  num_obs: int,
  plan_names: tuple[str, ...],
) -> ConfigDict:
  """Makes FDM's config for small frames and a CPU, all of it our choice (docs/fdm.md).

  Minutes of training suffice because x is predicted, at lower log SNRs; the network
  works on patches of 2x2 pixels; every frame takes the nearest given frames and
  features of all of them as input; stages sample two frames, and only windows of the
  plans are trained; given frames are noisy in training, as long videos are given the
  model's own; Muon trains it; and padding has no influence on real frames.
  """
  config = fdm(length, max_frames=8)
  common.small(config, data, frame_shape)
  config.task = plan_stages(
    length=length, num_obs=num_obs, max_frames=8, step_size=2, plan_names=plan_names
  )
  common.small_improved_unet(
    config, channels=32, pool_given=True, padding_in_norm=False
  )
  config.diffusion.update(
    dict(
      **common.x_at_low_logsnr(), where="latent", normalise="selected", given_noise=0.3
    )
  )
  config.sampling.update(dict(sampler="ddim", steps=15))
  config.plan = ConfigDict(dict(name=plan_names[0], max_frames=8, step_size=2))
  return config
