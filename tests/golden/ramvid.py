"""Golden cases of RaMViD (Höppe et al. 2022)."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.golden import case as case_lib
from tests.golden import statistics, tables
from vdm_jax import plans, sampling, systems, tasks
from vdm_jax.diffusion import guidance, sampler
from vdm_jax.diffusion.schedule import Level
from vdm_jax.frames import Frames
from vdm_jax.interop import mapping
from vdm_jax.interop import ramvid as layout
from vdm_jax.systems import DiffusionSystem
from vdm_jax.systems.parts import Noise

_DRAWS = 100_000


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


def _config(inferred: layout.Inferred, flags: dict, diffusion: dict, shape) -> dict:
  """A config of a network, its diffusion and clips (T, H, W)."""
  length, height, width = shape
  model = dict(inferred.model)
  channels = model.pop("out_channels")
  predict = "x" if diffusion.get("predict_xstart") else "eps"
  return {
    "system": "ramvid",
    "dtype": "float32",
    "data": {"frame_shape": (height, width, channels)},
    "task": {"name": "random_mask", "num_frames": length, "max_observed": 1},
    "model": {
      **model,
      "attention_resolutions": inferred.resolutions(height),
      "num_heads": flags["num_heads"],
      "num_heads_upsample": max(flags["num_heads_upsample"], 0),
      "scale_time_dim": flags["scale_time_dim"],
      "dropout": flags["dropout"],
      "cond_drop": 0.0,
    },
    "diffusion": {
      "schedule": f"{diffusion.get('noise_schedule', 'linear')}_steps",
      "num_steps": diffusion.get("steps", 1000),
      "rescale_time": diffusion.get("rescale_timesteps", True),
      "predict": predict,
      "loss_space": predict,
      "weighting": "simple",
      "norm": "l2",
      "where": "latent",
      "normalise": "example",
      "kind": "mse",
      "gamma": 0.0 if diffusion.get("sigma_small") else 1.0,
    },
  }


def _model(case: case_lib.Case) -> _Model:
  state = case.group("param")
  inferred = layout.infer({key: a.shape for key, a in state.items()})
  flags, shape = case.meta["constructor"], case.meta["shape"][2:]
  config = _config(inferred, flags, case.meta.get("diffusion", {}), shape)
  system = systems.build(config)
  entries = layout.entries(system.network.settings, shape[1])
  params = mapping.to_params(entries, state)
  wanted = jax.tree.map(lambda leaf: leaf.shape, _parameters(system))
  assert jax.tree.map(jnp.shape, params) == wanted
  return _Model(system, params, entries)


def _parameters(system: DiffusionSystem) -> Any:
  return jax.eval_shape(system.init, jax.random.key(0))


def _ours(video: np.ndarray) -> jax.Array:
  """[..., C, T, H, W] to [..., T, H, W, C]."""
  return jnp.moveaxis(jnp.asarray(video), -4, -1)


def _theirs(video: jax.Array) -> np.ndarray:
  return np.moveaxis(np.asarray(video), -1, -4)


def _frames(observed: np.ndarray) -> Frames:
  """Of clips whose frames `observed` [B, T] are given."""
  observed = jnp.asarray(observed)
  index = jnp.broadcast_to(jnp.arange(observed.shape[1]), observed.shape)
  return Frames(index, observed, ~observed, jnp.zeros_like(index))


def _cond(case: case_lib.Case) -> dict[str, jax.Array]:
  if "in/label" not in case.arrays:
    return {}
  return {"label": jnp.asarray(case.arrays["in/label"], jnp.int32)[:, None]}


def ramvid_unet(case: case_lib.Case) -> case_lib.Errors:
  """The network's output."""
  model = _model(case)
  z, time = _ours(case.arrays["in/x"]), jnp.asarray(case.arrays["in/t"])
  observed = case.arrays.get("in/cond_mask", np.zeros(z.shape[:2], bool))
  output = jax.jit(model.system.network.apply)(
    {"params": model.params}, z, Level(time, time), _frames(observed), _cond(case)
  )
  return case_lib.compare(case, {"out/y": _theirs(output)})


def ramvid_loss(case: case_lib.Case) -> case_lib.Errors:
  """The training loss, with and without given frames, and its gradients."""
  model, arrays = _model(case), case.arrays
  video, eps = _ours(arrays["in/x0"]), _ours(arrays["in/noise"])
  step = jnp.asarray(arrays["in/t"])
  noise = Noise(model.system.schedule.level(step), eps, step)
  frames = _frames(arrays["in/cond_mask"])

  def score(params, system):
    scored = system.score(params, video, frames, _cond(case), noise)
    return scored.loss, scored

  objective = dataclasses.replace(model.system.objective, where="all", normalise="all")
  everywhere = dataclasses.replace(model.system, objective=objective)

  @jax.jit
  def run(params):
    scored = jax.value_and_grad(score, has_aux=True)(params, model.system)
    return scored, score(params, everywhere)[1]

  ((loss, scored), gradients), over_all = run(model.params)
  computed = {
    "out/loss": scored.per_example,
    "out/loss_mean": loss,
    "out/loss_all_frames": over_all.per_example,
    "out/x_t": _theirs(scored.z),
    "out/model_time": noise.level.time,
    "out/model_output": _theirs(scored.output),
    "out/grad_norm": optax.global_norm(gradients),
  }
  by_key = mapping.to_state(model.entries, gradients)
  computed |= {f"grad/{key}": gradient for key, gradient in by_key.items()}
  return case_lib.compare(case, computed)


def ramvid_sample(case: case_lib.Case) -> case_lib.Errors:
  """Every step of a sampler, with the pieces that `sampling` puts together."""
  model, arrays, meta = _model(case), case.arrays, case.meta
  system, rounds = model.system, meta["resampling_steps"]
  z = _ours(arrays["in/init_noise"])
  observed = np.zeros(z.shape[:2], bool)
  observed[:, arrays["in/cond_frames"]] = True
  ddim = meta["sampler"].startswith("ddim")
  settings = sampling.SamplerSettings(
    sampler="ddim" if ddim else "ancestral",
    respacing=meta["diffusion"]["timestep_respacing"],
    steps=0,
    gamma=system.gamma,
    threshold="static" if meta["clip_denoised"] else "none",
    resample=rounds,
  )
  noise = _ours(arrays["in/step_noise"])
  constrain = None
  if observed.any():
    constrain = guidance.pasting(_ours(arrays["in/video"]), observed)
    if rounds > 1:
      noise = _with_renoise(noise, _ours(arrays["in/renoise"]))
  else:
    rounds = 1

  @jax.jit
  def run(params):
    frames = _frames(observed)
    encoded = system.encode(params, z, frames, _cond(case))
    denoiser = system.denoiser(params, frames, encoded.context)
    return sampler.sample(
      settings.clip(denoiser, -system.threshold_bound, system.threshold_bound),
      settings.make_sampler(bool(observed.any())),
      settings.grid(system.schedule),
      z,
      noise=noise,
      constrain=constrain,
      trajectory_every=rounds,
    )

  result = run(model.params)
  schedule = system.schedule.respace(settings.respacing)
  return case_lib.compare(
    case,
    {
      "out/samples": _theirs(result.trajectory.states),
      "out/pred_xstart": _theirs(result.trajectory.estimates),
      "out/final": _theirs(result.x),
      "out/timestep_map": schedule.timestep_map,
    },
  )


def _with_renoise(forth: jax.Array, back: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Noise [N, R, ...] of steps and [N, R - 1, ...] of ways back, a pair a call."""
  missing = forth.shape[1] - back.shape[1]
  back = jnp.pad(back, [(0, 0), (0, missing)] + [(0, 0)] * (back.ndim - 2))
  return tuple(a.reshape(-1, *a.shape[2:]) for a in (forth, back))


def ramvid_long_plan(case: case_lib.Case) -> case_lib.Errors:
  """How many settings extend a video in another way."""
  settings = [c for c in case.meta["cases"] if not c["quirks"]]
  return {"cases": sum(_wrong_plan(c) for c in settings)}


def _wrong_plan(expected: dict) -> bool:
  setting = expected["settings"]
  plan = plans.build(
    "extension",
    length=setting["seq_len"],
    given=tuple(setting["cond_frames"]),
    window=16,
    prediction_step=setting["prediction_step"],
    max_cond=setting["max_cond_frames"],
  )
  found = [
    [(int(i), bool(o)) for i, o in zip(f.index[0], f.observed[0], strict=True)]
    for f in plans.stages(plan)
  ]
  return found != _reference_stages(expected)


def _reference_stages(expected: dict) -> list[list[tuple[int, bool]]]:
  """The reference's windows as (frame of the video, observed), cut to its length."""
  output = {tuple(source): i for i, source in enumerate(expected["output_sources"])}
  stages = []
  for number, chunk in enumerate(expected["chunks"]):
    window = dict.fromkeys(range(chunk["window_length"]))
    for position, (source, at) in zip(
      chunk["conditioning_positions"], chunk["conditioning_sources"], strict=True
    ):
      if source == "data":
        frame = output["data", at]
      else:  # A frame that an earlier window sampled, or was given itself.
        frame = stages[int(source.removeprefix("chunk"))][at][0]
      window[position] = (frame, True)
    for position in chunk["kept_positions"]:
      window[position] = (output[f"chunk{number}", position], False)
    stages.append(list(window.values()))
  length = expected["settings"]["seq_len"]
  cut = ([slot for slot in stage if slot[0] < length] for stage in stages)
  return [stage for stage in cut if not all(observed for _, observed in stage)]


def ramvid_checkpoint_keys(case: case_lib.Case) -> case_lib.Errors:
  """How many keys or shapes differ, and fields that shapes tell otherwise."""
  errors = {}
  for name, expected in case.meta["configs"].items():
    flags = expected["flags"]
    size, keys = flags["image_size"], expected["keys"]
    shapes = {key: tuple(shape) for key, shape in keys.items()}
    inferred = layout.infer(shapes)
    config = _config(inferred, flags, {}, (16, size, size))
    system = systems.build(config)
    parameters = _parameters(system)
    ours = mapping.state_shapes(
      layout.entries(system.network.settings, size), parameters
    )
    differing = set(ours.items()) ^ set(shapes.items())
    errors[f"{name}/keys"] = len(differing)
    count = sum(leaf.size for leaf in jax.tree.leaves(parameters))
    errors[f"{name}/parameters"] = abs(count - expected["number_of_parameters"])
    told = {
      "channels": flags["num_channels"],
      "blocks": flags["num_res_blocks"],
      "scale_shift": flags["use_scale_shift_norm"],
      "learn_variance": flags["learn_sigma"],
      "out_channels": 3 if flags["rgb"] else 1,
    }
    errors[f"{name}/fields"] = sum(inferred.model[k] != v for k, v in told.items())
  return errors


def ramvid_mask_stats(case: case_lib.Case) -> case_lib.Errors:
  """p-values of the task's draws against the authors'."""
  rng, errors = np.random.default_rng(0), {}
  for number, setting in enumerate(case.meta["cases"]):
    s = setting["settings"]
    task = tasks.RandomMask(
      s["frames"],
      max_observed=s["max_conditioning_frames_K"],
      uncondition_rate=s["unconditional_rate_p_U"],
      mask_range=(s["mask_range_start"], s["mask_range_end_exclusive"]),
    )
    rows = [task.sample(rng, [s["frames"]]).observed for _ in range(_DRAWS)]
    found = np.stack(rows).astype(np.int64)
    errors |= {
      f"{number}/{name}": p for name, p in _mask_p_values(found, setting).items()
    }
  return errors


def _mask_p_values(masks: np.ndarray, expected: dict) -> dict[str, float]:
  """Of masks [draws, T]: every p-value is of entries that are independent."""
  counts = masks.sum(1)
  total = sum(expected["count_by_number_of_conditioning_frames"].values())

  def rest(part, whole):
    return np.append(part, whole - np.sum(part))

  first = {int(k): n for k, n in expected["count_first_frames_only"].items()}
  first_found = [np.sum((counts == k) & (masks[:, :k].sum(1) == k)) for k in first]
  by_number = expected["count_by_number_of_conditioning_frames"]
  numbers = [np.sum(counts == int(k)) for k in by_number]
  result = {
    "number": statistics.two_sample_p(
      rest(numbers, len(masks)), rest(list(by_number.values()), total)
    ),
    "first_frames_only": statistics.two_sample_p(
      rest(first_found, len(masks)), rest(list(first.values()), total)
    ),
    "frame_given_1": statistics.two_sample_p(
      masks[counts == 1].sum(0), expected["count_by_frame_given_number"]["1"]
    ),
  }
  # Frames of one draw exclude each other: each by itself, and the smallest p counts.
  pairs = list(itertools.combinations(range(masks.shape[1]), 2))
  both = masks.T @ masks
  table = np.asarray(expected["count_by_pair_of_frames"])
  for name, cells in (("frame", [(i, i) for i in range(len(both))]), ("pair", pairs)):
    p = [
      statistics.two_sample_p(rest(both[c], len(masks)), rest(table[c], total))
      for c in cells
    ]
    result[name] = min(1.0, len(p) * min(p))
  return result


def ramvid_tables(case: case_lib.Case) -> case_lib.Errors:
  """Tables of respaced schedules; in float64, see `fdm.fdm_tables`."""
  computed = {}
  with jax.enable_x64(True):
    for setting in case.meta["cases"]:
      schedule = tables.schedule_of(setting["diffusion"])
      result = tables.clip_first_variance(tables.tables(schedule))
      computed |= {f"out/{setting['name']}/{k}": table for k, table in result.items()}
  return case_lib.compare(case, computed, case_lib.elementwise)


KINDS = {
  "ramvid_checkpoint_keys": ramvid_checkpoint_keys,
  "ramvid_long_plan": ramvid_long_plan,
  "ramvid_loss": ramvid_loss,
  "ramvid_mask_stats": ramvid_mask_stats,
  "ramvid_sample": ramvid_sample,
  "ramvid_tables": ramvid_tables,
  "ramvid_unet": ramvid_unet,
}
