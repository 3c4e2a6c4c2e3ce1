"""Golden cases of FDM (Harvey et al. 2022)."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden import case as case_lib
from tests.golden import tables
from vdm_jax import plans, sampling, systems
from vdm_jax.diffusion import bound, sampler
from vdm_jax.diffusion.respacing import retained_steps
from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames
from vdm_jax.interop import fdm as layout
from vdm_jax.interop import formats, mapping
from vdm_jax.pixels import to_uint8
from vdm_jax.systems import DiffusionSystem
from vdm_jax.systems.parts import Noise


def _wrong_respacing(example: dict) -> bool:
  try:
    steps = retained_steps(example["num_timesteps"], example["section_counts"])
  except UserError:
    return "error" not in example
  return steps != example.get("timesteps")


def fdm_tables(case: case_lib.Case) -> case_lib.Errors:
  """Tables, and which steps a respacing keeps.

  In float64: float32 rounds log SNR to 1e-6, which is 1e-4 of the smallest steps.
  """
  computed = {}
  with jax.enable_x64(True):
    for setting in case.meta["cases"]:
      result = tables.clip_first_variance(tables.tables(tables.schedule_of(setting)))
      computed |= {f"out/{setting['tag']}/{k}": table for k, table in result.items()}
  wrong = sum(map(_wrong_respacing, case.meta["respacing_examples"]))
  errors = case_lib.compare(case, computed, case_lib.elementwise)
  return errors | {"respacing_examples": wrong}


@dataclasses.dataclass(frozen=True)
class _Model:
  """A case's network as the library has it.

  Attributes:
    system: as a config of the case's settings describes it.
    params: its weights.
    entries: between them and the case's.
  """

  system: DiffusionSystem
  params: Any
  entries: list[mapping.Entry]


def _options(case: case_lib.Case, height: int) -> tuple[dict, dict]:
  """The sections `model` and `diffusion` of a case."""
  network = dict(case.meta["constructor"])
  if not network["use_rpe_net"]:
    raise ValueError("use_rpe_net=False: the reference itself cannot run it")
  levels = range(len(network["channel_mult"]))
  model = {
    "channels": network["model_channels"],
    "channel_mults": network["channel_mult"],
    "blocks": network["num_res_blocks"],
    "attention_resolutions": [
      height >> level
      for level in levels
      if 2**level in network["attention_resolutions"]
    ],
    "num_heads": network["num_heads"],
    "num_heads_upsample": max(network["num_heads_upsample"], 0),
    "scale_shift": network["use_scale_shift_norm"],
    "dropout": network["dropout"],
  }
  flags = case.meta.get("diffusion", {})
  options = {
    "noise_schedule": flags.get("noise_schedule", "linear"),
    "diffusion_steps": flags.get("steps", 1000),
    "timestep_respacing": "",
    "learn_sigma": flags.get("learn_sigma", False),
    "pad_with_random_frames": True,
    **{
      name: flags.get(name, default)
      for name, default in (
        ("use_kl", False),
        ("predict_xstart", False),
        ("sigma_small", False),
        ("rescale_timesteps", True),
        ("rescale_learned_sigmas", True),
      )
    },
  }
  diffusion = layout.diffusion_from_options(options)
  if diffusion["kind"] == "mse" and "in/loss_mask" in case.arrays:
    diffusion["where"] = _where(case)
  return model, diffusion


def _where(case: case_lib.Case) -> str:
  """Which frames the loss mask of a case selects."""
  mask, observed, latent = (
    case.arrays[f"in/{name}_mask"] for name in ("loss", "obs", "latent")
  )
  named = {"unobserved": 1 - observed, "latent": latent, "all": np.ones_like(mask)}
  return next(name for name, value in named.items() if np.array_equal(mask, value))


def _model(case: case_lib.Case) -> _Model:
  video = next(
    case.arrays[f"in/{name}"]
    for name in ("x_start", "x", "x0", "videos")
    if f"in/{name}" in case.arrays
  )
  channels, height, width = video.shape[2:]
  model, diffusion = _options(case, height)
  config = {
    "system": "fdm",
    "dtype": "float32",
    "data": {"frame_shape": (height, width, channels)},
    "task": {"name": "random_subsets", "max_frames": video.shape[1]},
    "model": model,
    "diffusion": diffusion,
  }
  system = systems.build(config)
  # A schedule that the case respaces stands in for the whole one, as it does there.
  spec = case.meta.get("diffusion", {}).get("timestep_respacing", "")
  spec = case.meta.get("timestep_respacing", spec)
  system = dataclasses.replace(system, schedule=system.schedule.respace(spec))
  entries = layout.entries(system.network.settings, height)
  state = case.group("param")
  wanted = jax.eval_shape(system.init, jax.random.key(0))
  if differences := mapping.compare(
    entries, {key: a.shape for key, a in state.items()}, wanted
  ):
    raise ValueError(f"parameters differ: {differences}")
  return _Model(system, mapping.to_params(entries, state), entries)


def _ours(video: np.ndarray) -> jax.Array:
  """[..., T, C, H, W] to [..., T, H, W, C]."""
  return jnp.moveaxis(jnp.asarray(video), -3, -1)


def _theirs(video: jax.Array) -> np.ndarray:
  return np.moveaxis(np.asarray(video), -1, -3)


def _frames(case: case_lib.Case) -> Frames:
  observed, latent = (
    jnp.asarray(case.arrays[f"in/{role}_mask"][:, :, 0, 0, 0] > 0)
    for role in ("obs", "latent")
  )
  index = jnp.asarray(case.arrays["in/frame_indices"], jnp.int32)
  return Frames(index, observed, latent, jnp.zeros_like(index))


def fdm_unet(case: case_lib.Case) -> case_lib.Errors:
  """The network's output, of every frame."""
  model, frames = _model(case), _frames(case)
  time = jnp.asarray(case.arrays["in/timesteps"], jnp.float32)

  @jax.jit
  def run(params, z, video):
    context = model.system.encode(params, video, frames, {}).context
    return model.system.network.apply(
      {"params": params}, z, Level(time, time), frames, context, method="denoise"
    )

  y = run(model.params, _ours(case.arrays["in/x"]), _ours(case.arrays["in/x0"]))
  return case_lib.compare(case, {"out/y": _theirs(y)})


def fdm_loss(case: case_lib.Case) -> case_lib.Errors:
  """Loss and gradients for given noise and steps."""
  model, frames = _model(case), _frames(case)
  system, video = model.system, _ours(case.arrays["in/x_start"])
  step = jnp.asarray(case.arrays["in/t"], jnp.int32)
  noise = Noise(system.schedule.level(step), _ours(case.arrays["in/noise"]), step)

  @jax.jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(params):
    scored = system.score(params, video, frames, {}, noise)
    return scored.loss, scored

  (total, scored), gradient = loss(model.params)
  # The authors' means are over all frames of the window.
  share = np.asarray(frames.latent).mean(1)
  gradient = mapping.to_state(model.entries, gradient)
  squares = [np.square(a, dtype=np.float64).sum() for a in gradient.values()]
  computed = {
    "out/x_t": _theirs(scored.z),
    "out/total_loss": total,
    "out/loss": scored.per_example,
    "out/mse": scored.per_example,
    "out/eval_mse": scored.latent * share,
    "out/grad_norm": np.sqrt(sum(squares)),
    **{f"grad/{key}": value for key, value in gradient.items()},
  }
  return case_lib.compare(case, computed)


def _denoiser(model: _Model, frames: Frames, video: jax.Array, clip: bool = True):
  system = model.system
  encoded = system.encode(model.params, video, frames, {})
  settings = sampling.SamplerSettings(threshold="static" if clip else "none")
  return settings.clip(system.denoiser(model.params, frames, encoded.context))


def fdm_sampling(case: case_lib.Case) -> case_lib.Errors:
  """Trajectories of ancestral steps and DDIM, with the noise given."""
  model, frames = _model(case), _frames(case)
  start, video = (_ours(case.arrays[f"in/{name}"]) for name in ("init_noise", "x0"))
  gamma = model.system.gamma
  runs = {
    "ddpm": ("ddpm", sampler.Ancestral(gamma), True),
    "ddpm_noclip": ("ddpm", sampler.Ancestral(gamma), False),
    "ddim": ("ddim", sampler.Ddim(0.0), True),
    "ddim_eta": ("ddim", sampler.Ddim(case.meta["ddim_eta"]), True),
  }
  computed = {}
  for name, (respacing, rule, clip) in runs.items():
    grid = model.system.schedule.grid(case.meta[f"{respacing}_timestep_respacing"])
    num_steps = len(grid.logsnr) - 1
    noise = [_ours(case.arrays[f"in/noise_{k}"]) for k in range(num_steps)]

    @jax.jit
    def run(start, noise, rule=rule, clip=clip, grid=grid):
      denoiser = _denoiser(model, frames, video, clip)
      return sampler.sample(
        denoiser, rule, grid, start, noise=noise, trajectory_every=1
      ).trajectory

    states, estimates = run(start, jnp.stack(noise))
    computed[f"out/{name}_sample_last"] = _theirs(states[-1])
    for k in range(num_steps):
      computed[f"out/{name}_sample_{k}"] = _theirs(states[k])
      computed[f"out/{name}_pred_xstart_{k}"] = _theirs(estimates[k])
  return case_lib.compare(case, computed)


def fdm_elbo(case: case_lib.Case) -> case_lib.Errors:
  """The bound of latent frames: over all steps, over some, and as it is reported."""
  model, frames = _model(case), _frames(case)
  x = _ours(case.arrays["in/x_start"])
  schedule = model.system.schedule
  noise = jnp.stack(
    [_ours(case.arrays[f"in/noise_{k}"]) for k in range(schedule.num_steps)]
  )

  @jax.jit
  def run(noise, steps):
    return bound.discrete_bound(
      _denoiser(model, frames, x),
      schedule,
      x,
      noise=noise,
      steps=steps,
      gamma=model.system.gamma,
      where=frames.latent,
      normalise="all",
    )

  some = jnp.asarray(case.arrays["in/t_seq_2d"])
  every = jnp.arange(schedule.num_steps - 1, -1, -1)
  computed = {}
  for name, terms in (
    ("full", run(noise, every)),
    ("sub", run(noise[: some.shape[1]], some)),
  ):
    computed |= {
      f"out/{name}_total_bpd": terms.total,
      f"out/{name}_prior_bpd": terms.prior,
      f"out/{name}_vb": terms.steps,
      f"out/{name}_xstart_mse": terms.x_mse,
      f"out/{name}_mse": terms.eps_mse,
    }
  length = x.shape[1]
  for name in ("total_bpd", "prior_bpd", "vb", "xstart_mse", "mse"):
    full = np.asarray(computed[f"out/full_{name}"])
    computed[f"out/eval_{name}"] = length * (full.sum(1) if full.ndim == 2 else full)
  return case_lib.compare(case, computed)


def fdm_sample_video(case: case_lib.Case) -> case_lib.Errors:
  """A video completed stage by stage, with the noise given."""
  model, meta = _model(case), case.meta
  given = _ours(case.arrays["in/videos"])
  batch, length = given.shape[:2]
  grid = model.system.schedule.grid()

  @jax.jit
  def run(window, frames, start, noise):
    return sampler.sample(
      _denoiser(model, frames, window),
      sampler.Ancestral(model.system.gamma),
      grid,
      start,
      noise=noise,
    ).x

  video = np.where(np.arange(length)[:, None, None, None] < meta["num_obs"], given, 0)
  for stage, (observed, latent) in enumerate(meta["stages"]):
    noise = [
      _ours(case.arrays[f"in/noise_{stage}_{j}"]) for j in range(len(grid.logsnr))
    ]
    frames = plans.stage([observed] * batch, latent)
    window = video[:, observed + latent]
    window = run(window, frames, noise[0], jnp.stack(noise[1:]))
    video[:, latent] = np.asarray(window)[:, len(observed) :]
  computed = {"out/samples": _theirs(video), "out/uint8": _theirs(to_uint8(video))}
  return case_lib.compare(case, computed) | _other_stages(meta)


def _other_stages(meta: dict) -> case_lib.Errors:
  """Whether the plan's stages are others than a case's; nothing if it is refused."""
  try:
    plan = plans.build(
      meta["scheme"],
      length=meta["shapes"]["in/videos"][1],
      given=tuple(range(meta["num_obs"])),
      window=meta["max_frames"],
      max_frames=meta["max_frames"],
      step_size=meta["step_size"],
    )
    found = [
      [f.index[0, ~f.latent[0]].tolist(), f.index[0, f.latent[0]].tolist()]
      for f in plans.stages(plan)
    ]
  except UserError:
    return {}
  return {"stages": float(found != meta["stages"])}


def fdm_checkpoint_layout(case: case_lib.Case) -> case_lib.Errors:
  """Keys and shapes that differ, for what the options in a file describe."""
  errors = {}
  for name, published in case.meta["layouts"].items():
    shapes = published["state_dict"]
    state = {
      key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()
    }
    contents = {"state_dict": state, "config": published["config"], "step": 0}
    fields = formats.Fields()
    read = layout.read(formats.File("model000000.pt", contents), fields)
    params = jax.eval_shape(systems.build(fields.config()).init, jax.random.key(0))
    errors[name] = sum(map(len, mapping.compare(read.entries, shapes, params)))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    errors[f"{name}/n_parameters"] = abs(count - published["n_parameters"])
  return errors


KINDS = {
  "fdm_tables": fdm_tables,
  "fdm_unet": fdm_unet,
  "fdm_loss": fdm_loss,
  "fdm_sampling": fdm_sampling,
  "fdm_elbo": fdm_elbo,
  "fdm_sample_video": fdm_sample_video,
  "fdm_checkpoint_layout": fdm_checkpoint_layout,
}
