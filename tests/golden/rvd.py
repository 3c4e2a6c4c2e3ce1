"""Golden cases of RVD (Yang et al. 2022)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden import case as case_lib
from tests.golden import tables
from vdm_jax import frames as frames_lib
from vdm_jax import tasks
from vdm_jax.diffusion import guidance, process, sampler
from vdm_jax.diffusion import loss as losses
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.frames import Frames
from vdm_jax.interop import mapping
from vdm_jax.interop import rvd as layout
from vdm_jax.models import rvd
from vdm_jax.systems import parts
from vdm_jax.systems.rvd import RESIDUAL_BOUND, RvdSystem

# RVD clips the posterior variance, which is zero at step 0, before the logarithm.
LOG_FLOOR = math.log(1e-20)


def _schedule(config: dict, num_steps: int) -> DiscreteSchedule:
  return DiscreteSchedule.cosine(
    num_steps, s=config["s"], max_beta=config["beta_clip"][1], rescale_time=False
  )


def rvd_schedule(case: case_lib.Case) -> case_lib.Errors:
  """Tables; the forward process, x from eps and the posterior. In float64."""
  config = case.meta["config"]
  computed = {}
  with jax.enable_x64(True):
    for num_steps in config["timesteps"]:
      result = tables.tables(_schedule(config, num_steps))
      log_variance = result["posterior_log_variance_clipped"]
      result["posterior_log_variance_clipped"] = np.maximum(log_variance, LOG_FLOOR)
      computed |= {f"out/T{num_steps}/{k}": table for k, table in result.items()}
    schedule = _schedule(config, max(config["timesteps"]))
    x0, x, eps, step = (
      jnp.asarray(case.arrays[f"in/{name}"]) for name in ("x0", "x", "eps", "t")
    )
    t, s = schedule.level(step), schedule.level(step - 1)
    mean, log_variance = process.posterior(x, x0, t, s)
    computed |= {
      "out/q_sample": process.forward(x0, eps, t),
      "out/x0_from_eps": process.to_x("eps", eps, x, t),
      "out/posterior_mean": mean,
      "out/posterior_log_variance": jnp.maximum(log_variance, LOG_FLOOR),
    }
  return case_lib.compare(case, computed, case_lib.elementwise)


# The objective's first scored frame, which the reference has no argument for.
FIRST_SCORED = 2


def _settings(case: case_lib.Case) -> rvd.RvdSettings:
  config = case.meta["config"]
  # The reference's denoiser has a block of its own, that no argument of meta names.
  convnext = any(
    name.startswith("denoise_fn.downs.0.0.ds_conv") for name in case.group("param")
  )
  return rvd.RvdSettings(
    channels=config["dim"],
    channel_mults=tuple(config["dim_mults"]),
    predictor_mults=tuple(config["transform_dim_mults"]),
    context_factor=config["context_dim_factor"],
    predictor_factor=config["transform_dim_factor"],
    recurrent_block=config["backbone"],
    denoiser_block="convnext" if convnext else "resnet",
    residual=config["transform_mode"] == "residual",
    out_channels=config["channels"],
  )


def _params(case: case_lib.Case, settings: rvd.RvdSettings):
  """The parameters that a case has; some have but one or two of the networks."""
  state = case.group("param")
  entries = [entry for entry in layout.entries(settings) if entry.key in state]
  if len(entries) != len(state):
    raise ValueError(f"unknown keys: {set(state) - {entry.key for entry in entries}}")
  return mapping.to_params(entries, state), entries


def _system(case: case_lib.Case, length: int) -> RvdSystem:
  config, settings = case.meta["config"], _settings(case)
  predict = {"noise": "eps", "pred_true": "x"}[config["pred_mode"]]
  return RvdSystem(
    network=rvd.RvdNetwork(settings),
    schedule=DiscreteSchedule.cosine(config["timesteps"], rescale_time=False),
    objective=parts.Objective(predict, predict, norm=config["loss_type"]),
    task=tasks.NextFrame(length, FIRST_SCORED),
    frame_shape=(0, 0, config["channels"]),
    threshold_bound=RESIDUAL_BOUND,
  )


def _last(array):
  """Time-major and channels first, [T, B, C, H, W], to ours; or an image."""
  array = np.moveaxis(array, -3, -1)
  return array.swapaxes(0, 1) if array.ndim == 5 else array


def _first(array):
  """The inverse of `_last`."""
  array = np.moveaxis(np.asarray(array), -1, -3)
  return array.swapaxes(0, 1) if array.ndim == 5 else array


def rvd_recurrent(case: case_lib.Case) -> case_lib.Errors:
  """Predictor and context net, a frame at a time, by the state that they hand on."""
  settings = _settings(case)
  params, _ = _params(case, settings)
  network, predictor = rvd.RvdNetwork(settings), rvd.Predictor(settings)
  video = _last(case.arrays["in/video"])

  @jax.jit
  def step(window, state):
    frames = frames_lib.clip(*window.shape[:2])
    encoded = network.apply(
      {"params": params}, window, frames, {}, state, method="encode"
    )
    raw = None
    if settings.residual:
      before = rvd.zero_state(settings, window) if state is None else state
      raw, _ = predictor.apply(
        {"params": params["predictor"]}, window[:, :1], before["predictor"], 1
      )
    return encoded, raw

  found, state = {}, None
  for i in range(video.shape[1]):
    # The second slot is the frame that is predicted: its pixels are not read.
    window = np.stack([video[:, i], np.full_like(video[:, i], np.nan)], axis=1)
    encoded, raw = step(window, state)
    state = encoded.state
    if raw is not None:
      found.setdefault("mu", []).append(encoded.base[:, 1])
      found.setdefault("mu_before_clamp", []).append(raw[:, 0])
    for net, states in state.items():
      for level, h in enumerate(states):
        found.setdefault(f"{net}_state_{level}", []).append(h)
  computed = {f"out/{k}": _first(np.stack(v, axis=1)) for k, v in found.items()}
  return case_lib.compare(case, computed)


def rvd_unet(case: case_lib.Case) -> case_lib.Errors:
  """The denoiser with contexts as they are given."""
  settings = _settings(case)
  params, _ = _params(case, settings)
  inputs = case.group("in")
  levels = range(len(settings.channel_mults))
  context = [_last(inputs[f"context_{level}"])[:, None] for level in levels]
  time = jnp.asarray(inputs["t"], jnp.float32)[:, None]
  denoiser = rvd.Denoiser(settings)
  apply = jax.jit(
    functools.partial(
      denoiser.apply, capture_intermediates=lambda module, _: module.name == "middle_0"
    )
  )
  output, kept = apply(
    {"params": params["denoiser"]}, _last(inputs["x"])[:, None], time, context
  )
  (middle,) = kept["intermediates"]["middle_0"]["__call__"]
  computed = {"out/eps": _first(output[:, 0]), "out/mid_block1": _first(middle[:, 0])}
  return case_lib.compare(case, computed)


def rvd_train(case: case_lib.Case) -> case_lib.Errors:
  """Loss and gradients for given noise and steps."""
  video = _last(case.arrays["in/video"])
  b, t = video.shape[:2]
  system = _system(case, t)
  params, entries = _params(case, _settings(case))
  frames = Frames(
    index=np.tile(np.arange(t, dtype=np.int32), (b, 1)),
    observed=np.ones((b, t), bool),
    latent=np.tile(np.arange(t) >= FIRST_SCORED, (b, 1)),
    group=np.zeros((b, t), np.int32),
  )
  step = jnp.asarray(case.arrays["in/t"], jnp.int32)
  eps = np.pad(
    _last(case.arrays["in/noise"]), [(0, 0), (FIRST_SCORED, 0)] + [(0, 0)] * 3
  )
  noise = parts.Noise(system.schedule.level(step), jnp.asarray(eps), step)

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(params):
    scored = system.score(params, video, frames, {}, noise)
    return scored.loss, scored

  (total, scored), gradient = loss(params)
  predict, norm = system.objective.predict, system.objective.norm
  residual = video[:, FIRST_SCORED:] - (0.0 if scored.mu is None else scored.mu)
  error = losses.denoising_error(
    predict, scored.output, residual, eps[:, FIRST_SCORED:], noise.level, norm=norm
  )
  computed = {
    "out/loss": total,
    "out/frame_loss": error.mean((0, 2, 3, 4)),
    "out/x_noisy": _first(scored.z),
    "out/prediction": _first(scored.output),
  }
  if scored.mu is not None:
    computed["out/mu"] = _first(scored.mu)
  gradient = mapping.to_state(entries, gradient)
  computed |= {f"grad/{key}": value for key, value in gradient.items()}
  computed["out/grad_norms"] = np.array(
    [np.linalg.norm(gradient[name]) for name in case.meta["grad_norm_names"]]
  )
  return case_lib.compare(case, computed)


def rvd_rollout(case: case_lib.Case) -> case_lib.Errors:
  """Frame after frame, in the windows of a roll-out, with the noise given."""
  inputs = case.group("in")
  given = _last(inputs["context_video"])
  num_new = len(inputs["init_noise"])
  system = _system(case, FIRST_SCORED + 1)
  params, _ = _params(case, _settings(case))
  bound = RESIDUAL_BOUND if case.meta["config"]["clip_noise"] else np.inf

  @jax.jit
  def frame(window, state, start, step_noise):
    frames = frames_lib.clip(*window.shape[:2], observed=range(window.shape[1] - 1))
    encoded = system.encode(params, window, frames, {}, state)
    before = [(0, 0), (window.shape[1] - 1, 0)] + [(0, 0)] * 3
    sample = sampler.sample(
      guidance.threshold_static(
        system.denoiser(params, frames, encoded.context), -bound, bound
      ),
      sampler.Ancestral(0.0),
      system.schedule.grid(),
      jnp.pad(start[:, None], before),
      noise=jnp.pad(step_noise[:, :, None], [(0, 0), *before]),
      trajectory_every=1,
    )
    return encoded, sample.x[:, -1], sample.trajectory.states[:, :, -1]

  video, state = list(given.swapaxes(0, 1)), None
  found = {"mu": [], "denoised": [], "x_trace": []}
  for k in range(num_new):
    seen = video if k == 0 else video[-1:]
    window = np.stack([*seen, np.zeros_like(seen[0])], axis=1)
    noise = np.moveaxis(inputs["step_noise"][k], 2, -1)
    start = _last(inputs["init_noise"][k])
    encoded, residual, trace = frame(window, state, start, noise)
    state, mu = encoded.state, 0.0
    if encoded.base is not None:
      mu = np.asarray(encoded.base[:, -1])
      found["mu"].append(mu)
    found["denoised"].append(residual)
    found["x_trace"].append(np.moveaxis(np.asarray(trace), -1, 2))
    video.append(np.asarray(mu + residual))
  computed = {
    "out/video": np.moveaxis(np.stack(video), -1, 2),
    "out/denoised": np.moveaxis(np.stack(found["denoised"]), -1, 2),
    "out/x_trace": np.stack(found["x_trace"]),
  }
  if found["mu"]:
    computed["out/mu"] = np.moveaxis(np.stack(found["mu"]), -1, 2)
  return case_lib.compare(case, computed)


KINDS = {
  "rvd_schedule": rvd_schedule,
  "rvd_recurrent": rvd_recurrent,
  "rvd_unet": rvd_unet,
  "rvd_train": rvd_train,
  "rvd_rollout": rvd_rollout,
}
