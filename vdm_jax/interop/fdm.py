"""The layout of FDM's checkpoints (plai-group/flexible-video-diffusion-modeling).

A file holds {"state_dict", "config", "step"}; the config is the flat mapping of every
option of the training command. The older research code (wsgharvey/video-diffusion) has
another network: its files are recognised by names of arrays and refused.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vdm_jax.errors import UserError
from vdm_jax.interop import formats, improved_diffusion
from vdm_jax.interop.mapping import LINEAR, Entry
from vdm_jax.models.fdm import FdmSettings

TITLE = "FDM"
# The keys of a file.
CONTENTS = ("state_dict", "config", "step")
# Channel multipliers by frame size (script_util.py).
CHANNEL_MULTS = {
  256: (1, 1, 2, 2, 4, 4),
  128: (1, 1, 2, 3, 4),
  64: (1, 2, 3, 4),
  32: (1, 2, 2, 2),
}
# Our names of data sets by the authors'.
DATASETS = {
  "carla_no_traffic": "carla",
  "mazes_cwvae": "gqn_mazes",
  "minerl": "minerl",
}
# The options that matter here, with the types of their values.
_OPTIONS = {
  "image_size": int,
  "dataset": str,
  "num_channels": int,
  "num_res_blocks": int,
  "attention_resolutions": str,
  "num_heads": int,
  "num_heads_upsample": int,
  "use_scale_shift_norm": bool,
  "use_rpe_net": bool,
  "dropout": float,
  "learn_sigma": bool,
  "sigma_small": bool,
  "noise_schedule": str,
  "diffusion_steps": int,
  "timestep_respacing": str,
  "use_kl": bool,
  "predict_xstart": bool,
  "rescale_timesteps": bool,
  "rescale_learned_sigmas": bool,
  "max_frames": int,
  "T": int,
  "pad_with_random_frames": bool,
  "lr": float,
  "weight_decay": float,
  "batch_size": int,
  "ema_rate": str,
}
# Keys that only the older code's network has.
_OLDER = ("spatial_encoding", "lookup_table_weight")
_STEM = "input_blocks.0.0.weight"
# Fields of the network for which the authors' code has no option.
_OURS = (
  "padding_in_norm",
  "show_given",
  "pool_given",
  "patch",
  "remat",
  "attention",
)


def entries(settings: FdmSettings, height: int) -> list[Entry]:
  """Lists the arrays of a state dict; frames of `height` decide where attention is."""
  levels = range(len(settings.widths))
  found = improved_diffusion.entries(
    channels=settings.channels,
    widths=settings.widths,
    blocks=settings.blocks,
    attends=[settings.attends_at(level, height) for level in levels],
    site=_site,
    rank=2,
  )
  return [entry._replace(path=f"backbone/{entry.path}") for entry in found]


def _site(key: str, path: str, up: bool) -> Iterator[Entry]:
  del up  # The order of the arrays does not depend on heads.
  layer, norm = improved_diffusion.layer, improved_diffusion.norm
  for theirs, ours in (("spatial", "space"), ("temporal", "time")):
    source, target = f"{key}.{theirs}_attention", f"{path}_{ours}"
    yield from layer(f"{source}.qkv", f"{target}/qkv", LINEAR)
    yield from layer(f"{source}.proj_out", f"{target}/out", LINEAR)
    yield from norm(f"{source}.norm", f"{target}/norm")
  for name in ("query", "key", "value"):
    source = f"{key}.temporal_attention.rpe_{name[0]}.rpe_net"
    target = f"{path}_time/relative_{name}"
    yield from layer(f"{source}.embed_distances", f"{target}/distances", LINEAR)
    yield from layer(f"{source}.embed_diffusion_time", f"{target}/level", LINEAR)
    yield from layer(f"{source}.out", f"{target}/out", LINEAR)


def settings_from_options(options: Mapping[str, Any]) -> FdmSettings:
  """Converts the authors' options to settings of the network.

  Raises:
    UserError: an option is missing, or has a value for which the authors' code builds
      another network or none.
  """
  size = _option(options, "image_size")
  if size not in CHANNEL_MULTS:
    raise UserError(
      f"checkpoint's config.image_size: expected one of {sorted(CHANNEL_MULTS)}, "
      f"found {size!r}"
    )
  if not _option(options, "use_rpe_net"):
    raise UserError(
      "checkpoint's config.use_rpe_net: only the network of relative positions (True) "
      "is supported, as by the authors' code"
    )
  heights = [size >> level for level in range(len(CHANNEL_MULTS[size]))]
  wanted = _numbers(int, "attention_resolutions", options)
  upsample = _option(options, "num_heads_upsample")
  return FdmSettings(
    channels=_option(options, "num_channels"),
    channel_mults=CHANNEL_MULTS[size],
    blocks=_option(options, "num_res_blocks"),
    # The authors' network ignores a resolution that never occurs.
    attention_resolutions=tuple(r for r in wanted if r in heights),
    num_heads=_option(options, "num_heads"),
    num_heads_upsample=0 if upsample == -1 else upsample,
    scale_shift=_option(options, "use_scale_shift_norm"),
    dropout=_option(options, "dropout"),
    learn_variance=_option(options, "learn_sigma"),
  )


def diffusion_from_options(options: Mapping[str, Any]) -> dict[str, Any]:
  """Converts the authors' options to `config.diffusion`; raises UserError likewise."""
  schedules = {"linear": "linear_steps", "cosine": "cosine_steps"}
  name = _option(options, "noise_schedule")
  if name not in schedules:
    raise UserError(
      f"checkpoint's config.noise_schedule: expected {' or '.join(schedules)}, found "
      f"{name!r}"
    )
  if _option(options, "timestep_respacing"):
    raise UserError(
      "checkpoint's config.timestep_respacing: trained on a respaced schedule, which "
      "is not supported; expected ''"
    )
  if _option(options, "learn_sigma") and not _option(options, "rescale_learned_sigmas"):
    raise UserError(
      "checkpoint's config.rescale_learned_sigmas: expected True with learn_sigma"
    )
  kind = "kl" if _option(options, "use_kl") else "mse"
  predict = "x" if _option(options, "predict_xstart") else "eps"
  where = "unobserved" if _option(options, "pad_with_random_frames") else "latent"
  return {
    "schedule": schedules[name],
    "num_steps": _option(options, "diffusion_steps"),
    "rescale_time": _option(options, "rescale_timesteps"),
    "predict": predict,
    "loss_space": predict,
    "weighting": "simple",
    "norm": "l2",
    # The authors' KL objective ignores the masks.
    "where": "all" if kind == "kl" else where,
    "normalise": "all",
    "kind": kind,
    "gamma": 0.0 if _option(options, "sigma_small") else 1.0,
  }


def recognises(contents: Any) -> bool:
  """Returns whether a file's contents are those of FDM; see `formats`."""
  if not isinstance(contents, Mapping):
    return False
  stem = formats.state_dict_shape(contents.get("state_dict"), _STEM)
  return "config" in contents and stem is not None and len(stem) == 4


def check_contents(contents: Any) -> None:
  """Checks that a file's contents are FDM's.

  Raises:
    UserError: they are something else, or of the older research code.
  """
  known = contents if isinstance(contents, Mapping) else {}
  absent = [key for key in CONTENTS if key not in known]
  if absent:
    raise UserError(
      f"not a checkpoint of FDM: expected {', '.join(CONTENTS)}, found no "
      f"{' and no '.join(absent)}"
    )
  for key in known["state_dict"]:
    if any(name in key for name in _OLDER):
      raise UserError(
        f"a checkpoint of FDM's older research code ({key}): its network differs"
      )


def read(file: formats.File, fields: formats.Fields) -> formats.Published:
  """Reads a file, see `formats`, which holds all fields but those of the machine."""
  check_contents(file.contents)
  options, state = file.contents["config"], file.contents["state_dict"]
  size, settings = _option(options, "image_size"), settings_from_options(options)
  fields.set("system", "fdm", "file")
  fields.set("data.frame_shape", (size, size, settings.out_channels), "file")
  name = _option(options, "dataset")
  fields.set(
    "data.name", DATASETS.get(name, ""), "file" if name in DATASETS else "default"
  )
  for field in dataclasses.fields(FdmSettings):
    if field.name in _OURS:
      fields.set(f"model.{field.name}", field.default, "default")
    elif field.name not in ("out_channels", "dtype"):
      fields.set(f"model.{field.name}", getattr(settings, field.name), "file")
  fields.section("diffusion", diffusion_from_options(options), "file")
  _read_run(options, fields)
  found = re.fullmatch(r"ema_([0-9.]+)_\d+\.pt", file.name)
  return formats.Published(
    entries=entries(settings, size),
    state=state,
    step=int(file.contents["step"]),
    ema=found[1] if found else None,
  )


def _read_run(options: Mapping[str, Any], fields: formats.Fields) -> None:
  """Sets the fields of task, optimizer, training, sampling and plan."""
  max_frames, length = _option(options, "max_frames"), _option(options, "T")
  random = _option(options, "pad_with_random_frames")
  task = {
    "name": "random_subsets",
    "max_frames": max_frames,
    "clip_length": None if length == -1 else length,
    "padding": "random" if random else "first",
  }
  fields.section("task", task, "file")
  rate, decay = _option(options, "lr"), _option(options, "weight_decay")
  fields.set("optimizer.learning_rate", rate, "file")
  fields.set("optimizer.weight_decay", decay, "file")
  fields.set("optimizer.name", "adamw" if decay else "adam", "file")
  fields.set("optimizer.clip_norm", 0.0, "preset")
  fields.set("train.batch_size", _option(options, "batch_size"), "file")
  fields.set("train.ema", _numbers(float, "ema_rate", options), "file")
  fields.set("sampling.steps", _option(options, "diffusion_steps"), "file")
  fields.set("sampling.gamma", fields["diffusion.gamma"], "file")
  fields.set("plan.name", "hierarchy-2", "preset")
  fields.set("plan.max_frames", max_frames, "file")
  fields.set("plan.step_size", max(1, max_frames // 2), "preset")


def _numbers(kind: type, name: str, options: Mapping[str, Any]) -> tuple:
  """Parses an option that lists numbers, such as "16,8"; else raises UserError."""
  text = _option(options, name)
  try:
    return tuple(kind(part) for part in text.split(","))
  except ValueError:
    raise UserError(
      f"checkpoint's config.{name}: expected numbers with commas, found {text!r}"
    ) from None


def _option(options: Mapping[str, Any], name: str) -> Any:
  """Returns the value of one of `_OPTIONS`.

  Raises:
    UserError: the option is missing, or of another type.
  """
  if not isinstance(options, Mapping) or name not in options:
    raise UserError(f"not a checkpoint of FDM: its config has no {name!r}")
  value, kind = options[name], _OPTIONS[name]
  whole = isinstance(value, int) and not isinstance(value, bool)
  fits = whole or isinstance(value, float) if kind is float else type(value) is kind
  if not fits:
    raise UserError(
      f"checkpoint's config.{name}: expected {kind.__name__}, found {value!r}"
    )
  return value
