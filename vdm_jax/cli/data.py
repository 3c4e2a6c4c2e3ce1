"""`vdm-jax data`: build, list and show data sets.

vdm-jax data build moving_digits/16px_1digit_8frames
vdm-jax data build video_folder ~/clips --name=clips --image_size=64 --fps=8
vdm-jax data build kth ~/kth
vdm-jax data list
vdm-jax data show video_folder/clips --out=/tmp/look
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from etils import epath

from vdm_jax import errors, key_values, tasks
from vdm_jax.cli import common
from vdm_jax.data import builders, pipeline, sheet, video
from vdm_jax.data import source as source_lib
from vdm_jax.errors import UserError

_USAGE = "expected: vdm-jax data build NAME [PATH] | list | show NAME --out=DIR"

_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder of the data sets; default $VDM_JAX_DATA or ~/vdm_jax_data."
)
_NAME = flags.DEFINE_string("name", None, "build: name of a data set of your own.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "build: replace an existing one.")
_SPLIT = flags.DEFINE_string("split", "train", "show: split to show.")
_OUT = flags.DEFINE_string("out", None, "show: folder for the pictures.")
_COUNT = flags.DEFINE_integer("count", 6, "show: number of clips.", lower_bound=1)
_TASK = flags.DEFINE_string("task", "unconditional", "show: task that picks frames.")
_JSON = common.define_json()
_TASK_OPTIONS = flags.DEFINE_multi_string(
  "task_option", [], "show: option of the task as KEY=VALUE, such as num_frames=16."
)


def _define_builder_options() -> dict[str, flags.FlagHolder]:
  """Defines a flag for every option of every builder; the builder says which apply."""
  helps: dict[str, list[str]] = {}
  for dataset in builders.BUILDERS:
    for field in dataclasses.fields(builders.builder_class(dataset).CONFIG):
      if "help" in field.metadata and field.name != "path":
        default = f" (default {field.default})" if field.default != "" else ""
        text = f"{dataset}: {field.metadata['help']}{default}."
        helps.setdefault(field.name, []).append(text)
  return {
    name: flags.DEFINE_string(name, None, "build " + " ".join(texts))
    for name, texts in helps.items()
  }


_OPTIONS = _define_builder_options()


def main(argv: Sequence[str]) -> None:
  """Runs `vdm-jax data`, where argv[1] is the subcommand."""
  commands = {"build": _build, "list": _list, "show": _show}
  if len(argv) < 2:
    raise UserError(_USAGE)
  if argv[1] not in commands:
    raise errors.unknown("data command", argv[1], commands)
  commands[argv[1]](list(argv[2:]))


def _build(arguments: list[str]) -> None:
  if not arguments or len(arguments) > 2:
    raise UserError(f"data build: {_USAGE}")
  dataset, _, config_name = arguments[0].partition("/")
  fields = {
    field.name: field
    for field in dataclasses.fields(builders.builder_class(dataset).CONFIG)
  }
  options = {
    name: _typed(dataset, fields[name], holder.value)
    if name in fields
    else holder.value
    for name, holder in _OPTIONS.items()
    if holder.value is not None
  }
  if "path" in fields:
    if len(arguments) < 2:
      raise UserError(f"data build {dataset}: expected the folder of the videos")
    options["path"] = arguments[1]
    config_name = _NAME.value or config_name
  elif len(arguments) > 1:
    raise UserError(f"data build {dataset}: takes no path, found {arguments[1]!r}")
  directory = builders.build(
    f"{dataset}/{config_name}",
    data_dir=_data_dir(),
    overwrite=_OVERWRITE.value,
    **options,
  )
  if _JSON.value:
    print(json.dumps(_facts(directory), indent=2))
    return
  print(_describe(directory))
  print(f"in {directory}")


def _list(arguments: list[str]) -> None:
  if arguments:
    raise UserError(f"data list: takes no argument, found {arguments[0]!r}")
  built = source_lib.list_built(_data_dir())
  if _JSON.value:
    print(json.dumps([_facts(directory) for directory in built], indent=2))
    return
  print(f"Built in {_data_dir()}:" if built else f"Nothing is built in {_data_dir()}.")
  for directory in built:
    print(_describe(directory))
  print("\nBuildable, with `vdm-jax data build`:")
  for dataset in builders.BUILDERS:
    cls = builders.builder_class(dataset)
    print(f"  {dataset}: {cls.__doc__.splitlines()[0]}")
    for config in cls.BUILDER_CONFIGS:
      print(f"    {dataset}/{config.name}")


def _show(arguments: list[str]) -> None:
  if len(arguments) != 1 or _OUT.value is None:
    raise UserError(f"data show: {_USAGE}")
  source_lib.ensure_built(arguments[0], _data_dir())
  source = source_lib.load(arguments[0], _data_dir(), _SPLIT.value)
  batch = next(
    pipeline.make_pipeline(
      source,
      _task(source),
      batch_size=_COUNT.value,
      seed=0,
      cond=("video",),
      num_threads=0,
    )
  )
  clips, out = batch["video"], epath.Path(_OUT.value).expanduser()
  sheet.write_contact_sheet(
    out / "clips.png",
    clips,
    captions=[_caption(source, number) for number in batch["cond"]["video"][:, 0]],
    borders=sheet.role_colours(batch["frames"]),
  )
  scale = video.visible_scale(*clips.shape[2:4])
  tiles = np.pad(clips, [(0, 0)] * 3 + [(0, 2), (0, 0)], constant_values=128)
  fps = float(np.median(source.fps)) or 8.0
  video.write_gif(out / "clips.gif", np.concatenate(tiles, 2), fps=fps, scale=scale)
  print(f"wrote {out / 'clips.png'} and {out / 'clips.gif'}")


def _data_dir() -> epath.Path:
  if _DATA_DIR.value:
    return epath.Path(_DATA_DIR.value).expanduser()
  return source_lib.default_data_dir()


def _task(source: source_lib.VideoSource):
  """Makes the task that the flags name, by default a clip of up to 16 frames."""
  config: dict[str, Any] = {"name": _TASK.value}
  if "num_frames" in tasks.fields(_TASK.value):
    config["num_frames"] = int(min(16, source.lengths.max()))
  config |= key_values.parse(_TASK_OPTIONS.value, "task_option")
  return tasks.build(config)


def _caption(source: source_lib.VideoSource, number: int) -> str:
  """Describes a video by its caption or name, and its label."""
  label = source.label(number)
  if label < 0:
    return source.caption(number) or source.name(number)
  names = source.label_names
  named = names[label] if label < len(names) else label
  return f"{source.caption(number) or source.name(number)} [{named}]"


def _typed(dataset: str, field: dataclasses.Field, text: str) -> Any:
  """Converts a flag's text to the type of the option's default."""
  kind = type(field.default)
  try:
    if kind is bool:
      return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    return kind(text)
  except (ValueError, KeyError) as error:
    raise UserError(
      f"--{field.name} of {dataset}: expected {kind.__name__}, found {text!r}"
    ) from error


def _facts(directory: epath.Path) -> dict[str, Any]:
  """Collects the facts of a data set, JSON-serialisable."""
  found = {}
  for split in source_lib.splits(directory):
    source = source_lib.VideoSource(directory, split)
    found[split] = {
      "videos": source.num_videos,
      "frames": [int(source.lengths.min()), int(source.lengths.max())],
      "labels": len(np.unique(source.labels[source.labels >= 0])),
      "captions": sum(map(bool, map(source.caption, range(source.num_videos)))),
    }
  return {
    "name": source.full_name,
    "folder": str(directory),
    "frame_shape": list(source.frame_shape),
    "bytes": sum(path.stat().length for path in directory.iterdir()),
    "splits": found,
  }


def _describe(directory: epath.Path) -> str:
  """Formats a line for the data set and one per split."""
  facts = _facts(directory)
  shape = "x".join(map(str, facts["frame_shape"]))
  lines = [f"  {facts['name']}: {shape}, {facts['bytes'] / 1e6:.1f} MB"]
  for split, of in facts["splits"].items():
    shortest, longest = of["frames"]
    span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
    lines.append(
      f"    {split}: {of['videos']} videos of {span} frames, {of['labels']} labels, "
      f"{of['captions']} captions"
    )
  return "\n".join(lines)
