"""The layout of RaMViD's published checkpoints (github.com/Tobi-r9/RaMViD).

A file is a plain state dict, without configuration. Shapes determine most of the
network; the rest (heads, temporal scaling, the size of clips, the diffusion) comes from
a preset of the authors' README, or from the user.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vdm_jax.errors import UserError
from vdm_jax.interop import formats, improved_diffusion
from vdm_jax.interop.mapping import Entry, Layout, Shape, pointwise
from vdm_jax.models.ramvid import RamvidSettings

TITLE = "RaMViD"
_STEM = "input_blocks.0.0.weight"


class Preset(NamedTuple):
  """A run of the authors' README; what all three have in common is in `read`.

  Attributes:
    num_frames: frames per clip.
    blocks: residual blocks per resolution.
    uncondition_rate: probability p_U of no given frame.
    batch_size: batch size per process.
  """

  num_frames: int
  blocks: int
  uncondition_rate: float
  batch_size: int


PRESETS = {
  "kinetics600": Preset(16, 3, 0.25, 8),
  "bair": Preset(20, 2, 0.25, 4),
  "ucf101": Preset(16, 3, 0.75, 8),
}
# Values that follow from the shapes of every preset's file, beside its blocks.
_PUBLISHED = {
  "channels": 128,
  "channel_mults": (1, 2, 3, 4),
  "scale_shift": True,
  "num_labels": 0,
  "learn_variance": False,
  "out_channels": 3,
}
_PUBLISHED_ATTENTION = (2, 3)


class Inferred(NamedTuple):
  """What follows from shapes.

  Attributes:
    model: fields of `RamvidSettings`.
    attention_levels: levels with attention, where 0 is the finest.
  """

  model: dict[str, Any]
  attention_levels: tuple[int, ...]

  def resolutions(self, height: int) -> tuple[int, ...]:
    """Returns `RamvidSettings.attention_resolutions` for frames of a height."""
    return tuple(height >> level for level in self.attention_levels)


def infer(shapes: Mapping[str, Shape]) -> Inferred:
  """Infers settings of the network from the shapes of a state dict.

  Raises:
    UserError: the state dict is not RaMViD's.
  """

  def refuse(why):
    raise UserError(f"not a checkpoint of {TITLE}: {why}")

  def shape(key):
    if key not in shapes:
      refuse(f"it has no {key}")
    return tuple(shapes[key])

  stem = shape(_STEM)
  if len(stem) != 5:
    refuse(f"{_STEM} is {stem}, expected a kernel over time, height and width")
  channels, out_channels = stem[:2]
  outputs = shape("out.2.weight")[0]
  if outputs not in (out_channels, 2 * out_channels):
    refuse(f"{out_channels} channels in and {outputs} out")
  # A level has its blocks and, unless it is the last, a resampling.
  last = max(
    int(key.split(".")[1]) for key in shapes if key.startswith("input_blocks.")
  )
  resampled = [i for i in range(1, last) if f"input_blocks.{i}.0.op.weight" in shapes]
  size = resampled[0] if resampled else last + 1
  if resampled != list(range(size, last, size)) or (last + 1) % size:
    refuse(f"{last} input blocks with resampling at {resampled}")
  starts = range(1, last + 1, size)
  widths = [shape(f"input_blocks.{i}.0.out_layers.3.weight")[0] for i in starts]
  if any(width % channels for width in widths):
    refuse(f"levels of {widths} channels after a stem of {channels}")
  model = {
    "channels": channels,
    "channel_mults": tuple(width // channels for width in widths),
    "blocks": size - 1,
    "scale_shift": shape("input_blocks.1.0.emb_layers.1.weight")[0] == 2 * widths[0],
    "num_labels": tuple(shapes.get("label_emb.weight", (0,)))[0],
    "learn_variance": outputs == 2 * out_channels,
    "out_channels": out_channels,
  }
  attending = [f"input_blocks.{i}.1.qkv.weight" in shapes for i in starts]
  return Inferred(model, tuple(i for i, found in enumerate(attending) if found))


def entries(settings: RamvidSettings, height: int) -> list[Entry]:
  """Lists the arrays of a state dict; frames of `height` decide where attention is."""

  def site(key, path, up):
    return _attention(key, path, settings.heads(up))

  widths = settings.widths
  found = improved_diffusion.entries(
    channels=settings.channels,
    widths=widths,
    blocks=settings.blocks,
    attends=[
      height >> level in settings.attention_resolutions for level in range(len(widths))
    ],
    site=site,
    rank=3,
  )
  found = [entry._replace(path=f"backbone/{entry.path}") for entry in found]
  if settings.num_labels:
    found.append(Entry("label_emb.weight", "label/embedding"))
  return found


def _attention(key: str, path: str, heads: int) -> Iterator[Entry]:
  yield from improved_diffusion.norm(f"{key}.norm", f"{path}/norm")
  # The file's rows are ordered by head, then q, k, v; ours by q, k, v, then head.
  swapped, point = _swapped(heads), pointwise(1)
  kernel = Layout(
    lambda a: point.to_flax(swapped.to_flax(a)),
    lambda a: swapped.to_torch(point.to_torch(a)),
  )
  yield Entry(f"{key}.qkv.weight", f"{path}/qkv/kernel", kernel)
  yield Entry(f"{key}.qkv.bias", f"{path}/qkv/bias", swapped)
  yield from improved_diffusion.layer(f"{key}.proj_out", f"{path}/out", point)


def _swapped(heads: int) -> Layout:
  def swap(first, second):
    def apply(a):
      parts = a.reshape(first, second, -1, *a.shape[1:]).swapaxes(0, 1)
      return parts.reshape(a.shape)

    return apply

  return Layout(swap(heads, 3), swap(3, heads))


def recognises(contents: Any) -> bool:
  """Returns whether a file's contents are those of RaMViD; see `formats`."""
  stem = formats.state_dict_shape(contents, _STEM)
  return stem is not None and len(stem) == 5


def read(file: formats.File, fields: formats.Fields) -> formats.Published:
  """Reads a file, see `formats`; without a preset the README's values are defaults."""
  if not isinstance(file.contents, Mapping):
    raise UserError(f"not a checkpoint of {TITLE}: expected a state dict")
  shapes = {key: tuple(getattr(a, "shape", ())) for key, a in file.contents.items()}
  inferred = infer(shapes)
  preset, source = PRESETS["kinetics600"], "default"
  if file.dataset is not None:
    preset, source = file.preset(PRESETS), "preset"
    _check_preset(file, inferred, preset)
  fields.set("system", "ramvid", "shapes")
  height = _read_frames(fields, inferred, source)
  model = _read_model(fields, inferred, height, source)
  _read_run(fields, preset, source)
  found = re.fullmatch(r"(?:ema_([0-9.]+)_|model)(\d+)\.pt", file.name)
  if found and found[1]:
    fields.set("train.ema", (float(found[1]),), "name")
  return formats.Published(
    entries=entries(RamvidSettings(**model), height),
    state=file.contents,
    step=int(found[2]) if found else 0,
    ema=found[1] if found else None,
  )


def _check_preset(file: formats.File, inferred: Inferred, preset: Preset) -> None:
  expected = {**_PUBLISHED, "blocks": preset.blocks}
  told = {**inferred.model, "attention_levels": inferred.attention_levels}
  expected["attention_levels"] = _PUBLISHED_ATTENTION
  for name, value in expected.items():
    if told[name] != value:
      raise UserError(
        f"{file.name}: {name} is {told[name]} by its shapes, {value} in "
        f"`dataset={file.dataset}`; is it a checkpoint of another data set?"
      )


def _read_frames(fields: formats.Fields, inferred: Inferred, source: str) -> int:
  channels = inferred.model["out_channels"]
  shape = fields.set("data.frame_shape", (64, 64, channels), source)
  if len(shape) != 3 or shape[2] != channels:
    raise UserError(
      f"`data.frame_shape={shape!r}`: the shapes in the file say (height, width, "
      f"{channels})"
    )
  return shape[0]


def _read_model(fields, inferred: Inferred, height: int, source: str) -> dict[str, Any]:
  told = {**inferred.model, "attention_resolutions": inferred.resolutions(height)}
  model = {"out_channels": told.pop("out_channels")}
  for name, value in told.items():
    model[name] = fields.set(f"model.{name}", value, "shapes")
  for name, value in {
    "num_heads": 4,
    "num_heads_upsample": 0,
    "scale_time_dim": 0,
  }.items():
    model[name] = fields.set(f"model.{name}", value, source)
  further = {"dropout": 0.0, "cond_drop": 0.0, "remat": "none", "attention": "auto"}
  fields.section("model", {"show_given": False, "patch": 1, **further}, "default")
  return model


def _read_run(fields: formats.Fields, preset: Preset, source: str) -> None:
  """Sets the fields of task, diffusion, optimizer, training, sampling and plan."""
  fields.set("task.name", "random_mask", source)
  length = fields["model.scale_time_dim"] or preset.num_frames
  length = fields.set("task.num_frames", length, source)
  task = {
    "max_observed": min(4, length - 1),
    "uncondition_rate": preset.uncondition_rate,
    "mask_range": (),
    "stride": 1,
    "flip": False,
  }
  fields.section("task", task, source)
  diffusion = {
    "schedule": "linear_steps",
    "num_steps": 1000,
    "rescale_time": True,
    "predict": "eps",
    "weighting": "simple",
    "norm": "l2",
    "where": "latent",
    "normalise": "example",
    "kind": "mse",
    "gamma": 1.0,
  }
  fields.section("diffusion", diffusion, source)
  fields.set("diffusion.loss_space", fields["diffusion.predict"], source)
  fields.set("optimizer.learning_rate", 2e-5, source)
  fields.set("train.batch_size", preset.batch_size, source)
  fields.set("sampling.steps", 0, source)  # All steps.
  fields.set("sampling.gamma", fields["diffusion.gamma"], source)
  fields.set("plan.overlap", min(5, length // 2), source)
