"""The layout of RVD's published checkpoints (github.com/buggyyang/RVD).

A file holds {"step", "model", "ema"}; the latter two are state dicts of the three
networks and of the twelve tables of the noise schedule, which are computed again from
its length. No hyperparameters are stored: widths follow from shapes, the rest (what the
network predicts, the loss) from the file's name, if it is still the authors'.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vdm_jax.errors import UserError
from vdm_jax.interop import formats
from vdm_jax.interop.mapping import Shape
from vdm_jax.interop.rvd_layout import entries
from vdm_jax.models.rvd import RvdSettings

TITLE = "RVD"
_FIRST = "denoise_fn.time_mlp.1.weight"
# Fields of the networks that the authors' code lacks.
OURS = ("residual_scale", "finest_skip", "join", "estimate_frame", "remat")
# The authors average with 0.99 every fifth step, which equals this in every step.
_EMA = "0.998"

# Keys of the noise schedule's tables, each of the schedule's length.
TABLES = (
  "betas",
  "alphas_cumprod",
  "alphas_cumprod_prev",
  "sqrt_alphas_cumprod",
  "sqrt_one_minus_alphas_cumprod",
  "log_one_minus_alphas_cumprod",
  "sqrt_recip_alphas_cumprod",
  "sqrt_recipm1_alphas_cumprod",
  "posterior_variance",
  "posterior_log_variance_clipped",
  "posterior_mean_coef1",
  "posterior_mean_coef2",
)


class Dataset(NamedTuple):
  """A data set of the authors' test configurations.

  Attributes:
    height: height and width of a frame.
    channels: channels of a frame.
    num_frames: number of frames, 4 given ones and those predicted.
  """

  height: int
  channels: int
  num_frames: int


DATASETS = {
  "bair": Dataset(64, 3, 20),
  "kth": Dataset(64, 1, 16),
  "cityscapes": Dataset(128, 3, 20),
  "simulation": Dataset(128, 1, 20),
}
# Fields of the settings by the frame heights that they were published for.
PRESETS = {
  (64,): {
    "channels": 48,
    "channel_mults": (1, 2, 4, 8),
    "predictor_mults": (1, 2, 2, 4),
  },
  (128, 256): {
    "channels": 64,
    "channel_mults": (1, 1, 2, 2, 4, 4),
    "predictor_mults": (1, 2, 3, 4),
  },
}


def infer(shapes: Mapping[str, Shape]) -> RvdSettings:
  """Infers settings from the shapes of a state dict.

  To separate factors from multipliers, the finest level's multiplier is assumed to be
  1, as in both presets.

  Raises:
    UserError: the state dict is not RVD's.
  """

  def shape(key):
    if key not in shapes:
      raise UserError(f"not a checkpoint of RVD: it has no {key}")
    return shapes[key]

  def levels(prefix):
    count = 0
    while any(key.startswith(f"{prefix}.downs.{count}.") for key in shapes):
      count += 1
    if not count:
      raise UserError(f"not a checkpoint of RVD: it has no {prefix}.downs.0")
    return range(count)

  def states(prefix):
    return [
      shape(f"{prefix}.downs.{i}.1.conv_cans.0.weight")[0] for i in levels(prefix)
    ]

  def kind(prefix):
    convnext = f"{prefix}.downs.0.0.ds_conv.weight" in shapes
    return "convnext" if convnext else "resnet"

  channels = shape("denoise_fn.time_mlp.1.weight")[1]
  denoiser_block = kind("denoise_fn")
  out = "net.4.weight" if denoiser_block == "convnext" else "block2.block.0.weight"
  widths = [shape(f"denoise_fn.downs.{i}.0.{out}")[0] for i in levels("denoise_fn")]
  context = states("history_fn")
  fields: dict[str, Any] = {
    "channels": channels,
    "channel_mults": tuple(width // channels for width in widths),
    "context_factor": context[0] / channels,
    "recurrent_block": kind("history_fn"),
    "denoiser_block": denoiser_block,
    "residual": any(key.startswith("transform_fn.") for key in shapes),
    "out_channels": shape("denoise_fn.final_conv.1.weight")[0],
  }
  if fields["residual"]:
    predictor = states("transform_fn")
    fields["predictor_factor"] = predictor[0] / channels
    fields["predictor_mults"] = tuple(width // predictor[0] for width in predictor)
  return RvdSettings(**fields)


def num_steps(shapes: Mapping[str, Shape]) -> int:
  """Counts the diffusion steps; UserError if the schedule's tables are missing."""
  lengths = {tuple(shapes[name]) for name in TABLES if name in shapes}
  if len(lengths) != 1 or len(next(iter(lengths))) != 1:
    raise UserError(
      f"not a checkpoint of RVD: expected schedule tables ({TABLES[0]}, ...) of one "
      f"length, found {sorted(lengths) or 'none'}"
    )
  return next(iter(lengths))[0]


def preset(settings: RvdSettings) -> tuple[int, ...]:
  """Returns the frame heights that such settings were published for; () for none."""
  for heights, fields in PRESETS.items():
    # A file without a predictor has only the other fields.
    found = {
      name: getattr(settings, name)
      for name in fields
      if settings.residual or name != "predictor_mults"
    }
    if all(_plain(value) == fields[name] for name, value in found.items()):
      return heights
  return ()


def _plain(value: Any) -> Any:
  return value if isinstance(value, int) else tuple(value)


def check_height(settings: RvdSettings, height: int) -> None:
  """Checks that frames of a height do not contradict the preset of a checkpoint.

  Raises:
    UserError: the checkpoint matches the preset of another height.
  """
  found = preset(settings)
  if found and height not in found:
    sizes = " and ".join(map(str, found))
    raise UserError(
      f"frames of {height} px: the checkpoint looks like the authors' preset for "
      f"{sizes} px (channels {settings.channels}, levels {settings.channel_mults})"
    )


def from_name(name: str) -> dict[str, Any]:
  """Parses the authors' file names: 'predict', 'norm', 'dataset'; or nothing."""
  pattern = (
    r"(?:resnet|convnext)-(?:adamw?)-(?P<predict>noise|pred_true)-(?P<norm>l1|l2)-"
    r"(?P<dataset>.+)-d\d+-t\d+-"
  )
  match = re.match(pattern, name)
  if match is None:
    return {}
  predict = {"noise": "eps", "pred_true": "x"}[match["predict"]]
  return {"predict": predict, "norm": match["norm"], "dataset": match["dataset"]}


def recognises(contents: Any) -> bool:
  """Returns whether a file's contents are those of RVD; see `formats`."""
  if not isinstance(contents, Mapping):
    return False
  states = (contents.get(name) for name in ("model", "ema"))
  return any(formats.state_dict_shape(state, _FIRST) is not None for state in states)


def read(file: formats.File, fields: formats.Fields) -> formats.Published:
  """Reads a file, see `formats`: averages, or raw parameters if asked for."""
  name = "model" if file.raw else "ema"
  state = file.contents.get(name)
  if formats.state_dict_shape(state, _FIRST) is None:
    raise UserError(f"{file.name}: expected a state dict under {name!r}, found none")
  shapes = {key: tuple(getattr(a, "shape", ())) for key, a in state.items()}
  settings = infer(shapes)
  fields.set("system", "rvd", "shapes")
  _read_frames(file, fields, settings)
  for field in dataclasses.fields(RvdSettings):
    if field.name in OURS:
      fields.set(f"model.{field.name}", field.default, "default")
    elif field.name not in ("out_channels", "dtype"):
      fields.set(f"model.{field.name}", getattr(settings, field.name), "shapes")
  _read_run(file, fields, num_steps(shapes))
  ema = None if file.raw else _EMA
  step = file.contents.get("step", 0)
  return formats.Published(
    entries=entries(settings),
    state=state,
    tables=TABLES,
    step=int(step) if isinstance(step, int) else 0,
    ema=ema,
  )


def _read_frames(file: formats.File, fields: formats.Fields, settings: RvdSettings):
  """Sets the frame's shape, from the data set or from the preset of these widths."""
  height, source = next(iter(preset(settings)), 64), "default"
  if preset(settings):
    source = "preset"
  if file.dataset is not None:
    dataset, source = file.preset(DATASETS), "preset"
    height = dataset.height
    if dataset.channels != settings.out_channels:
      raise UserError(
        f"{file.name}: frames have {settings.out_channels} channels by its shapes, "
        f"{dataset.channels} in `dataset={file.dataset}`"
      )
  shape = (height, height, settings.out_channels)
  shape = fields.set("data.frame_shape", shape, source)
  if len(shape) != 3 or shape[2] != settings.out_channels:
    raise UserError(
      f"`data.frame_shape={shape!r}`: the shapes in the file say (height, width, "
      f"{settings.out_channels})"
    )
  check_height(settings, shape[0])


def _read_run(file: formats.File, fields: formats.Fields, steps: int) -> None:
  """Sets the fields of task, diffusion, optimizer, training, sampling and plan."""
  told = from_name(file.name)
  fields.set("task.name", "next_frame", "default")
  length, source = 20, "default"
  if file.dataset is not None:
    length, source = file.preset(DATASETS).num_frames, "preset"
  fields.set("task.num_frames", length, source)
  fields.section("task", {"num_context": 2, "stride": 1, "flip": False}, "default")
  fields.section("diffusion", {"schedule": "cosine_steps", "rescale_time": False},
                 "default")  # fmt: skip
  fields.set("diffusion.num_steps", steps, "shapes")
  for name, default in (("predict", "eps"), ("norm", "l1")):
    source = "name" if name in told else "default"
    fields.set(f"diffusion.{name}", told.get(name, default), source)
  options = {
    "regression_weight": 0.0,
    "step_per_frame": False,
    "stop_gradient": False,
    "train_only": "",
  }
  fields.section("diffusion", options, "default")
  fields.set("optimizer.name", "adam", "default")
  fields.set("optimizer.learning_rate", 5e-5, "default")
  fields.set("optimizer.clip_norm", 0.0, "default")
  fields.set("train.ema", (float(_EMA),), "default")
  fields.set("sampling.steps", steps, "default")
  fields.set("sampling.gamma", 0.0, "default")
  fields.set("plan.name", "rollout", "default")
