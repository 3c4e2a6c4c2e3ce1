"""What the configs of FDM share: task, network, diffusion and training."""

from ml_collections import ConfigDict

from vdm_jax.configs import common


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
  return common.improved_unet(
    # Norms over time see padding, too, as in the authors' code; their weights want it
    # so. False keeps padding from reaching real frames at all.
    padding_in_norm=True,
    pool_given=False,  # Ours: frames are told what all given frames look like.
  )


def fdm_diffusion() -> ConfigDict:
  """Diffusion and objective of FDM, as its authors train it."""
  # All frames that are not given count, padding too; the mean is over all frames of a
  # window, those given as zeros. 'latent' leaves padding out.
  return common.linear_steps(where="unobserved", normalise="all")


def fdm(clip_length: int, max_frames: int = 20) -> ConfigDict:
  """FDM as its authors train it; data are left to the config.

  Our choice, where it is not theirs: bfloat16, how often it is reported, and a batch of
  8, one video for each chip of a small slice (theirs is 2 or 1, on one GPU).
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
  # The plan of their best results: half of a window is sampled at a time.
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
  """FDM for small frames and a CPU, all of it our choice (docs/fdm.md).

  Minutes of training are enough because x is predicted, at lower log SNRs; the network
  works on patches of 2x2 pixels; every frame is shown the given frames next to it and
  told what all of them look like; stages sample two frames, and windows of the plans
  are all that is trained; given frames are noisy in training, as in a long video they
  are the model's own; Muon trains it; padding reaches no other frame.
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
