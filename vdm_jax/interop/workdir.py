"""Conversion of a published checkpoint to a workdir for `sample` and `train`."""

import datetime
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from vdm_jax import atomic, systems
from vdm_jax.errors import UserError
from vdm_jax.interop import formats, mapping
from vdm_jax.storage import checkpoint, workdirs
from vdm_jax.training import parameters


class Examined(NamedTuple):
  """A file, its config, and the differences between the two.

  Attributes:
    file: the file that was read.
    title: name of the format.
    published: the arrays, and their mapping to parameters.
    config: complete config, as `systems.build` takes it.
    sources: source of each field, by dotted name.
    comparison: missing, unexpected and misshaped keys.
    num_arrays: number of arrays of the model.
    num_parameters: number of parameters of the model.
  """

  file: formats.File
  title: str
  published: formats.Published
  config: dict[str, Any]
  sources: Mapping[str, str]
  comparison: mapping.Comparison
  num_arrays: int
  num_parameters: int


def examine(
  system: str, file: formats.File, asked: Mapping[str, Any] | None = None
) -> Examined:
  """Assembles the config and compares every name and shape, without reading values.

  Args:
    system: name of a format.
    file: file of that format.
    asked: config fields that the user sets, by dotted name.

  Raises:
    UserError: the file is of another system (which is named, if known), says too little
      or contradicts what was asked for, or the config cannot be built.
  """
  form = formats.load(system)
  if not form.recognises(file.contents):
    others = [formats.load(name).TITLE for name in formats.looks_like(file.contents)]
    like = f"it looks like {' or '.join(others)}" if others else "none is recognised"
    raise UserError(f"{file.name}: not a checkpoint of {form.TITLE}; {like}")
  fields = formats.Fields(asked)
  published = form.read(file, fields)
  if file.raw and published.ema is not None:
    raise UserError(f"`raw`: {file.name} holds averages alone")
  config = fields.config()
  built = systems.build(config)
  params = jax.eval_shape(built.init, jax.random.key(0))
  shapes = {
    key: tuple(value.shape)
    for key, value in published.state.items()
    if key not in published.tables
  }
  leaves = jax.tree.leaves(params)
  return Examined(
    file=file,
    title=form.TITLE,
    published=published,
    config=config,
    sources=fields.sources,
    comparison=mapping.compare(published.entries, shapes, params),
    num_arrays=len(leaves),
    num_parameters=parameters.count(leaves),
  )


def report(examined: Examined) -> str:
  """Formats what was found: fields by source, then differences of keys and shapes."""
  published = examined.published
  weights = f"average of rate {published.ema}" if published.ema else "raw parameters"
  lines = [
    f"{examined.file.name}: {examined.title}, {weights}, "
    + (f"step {published.step}" if published.step else "step not told")
  ]
  flat = traverse_util.flatten_dict(examined.config, sep=".")
  for source in formats.SOURCES:
    names = [name for name in flat if examined.sources[name] == source]
    if names:
      lines.append(f"config from {_SOURCES[source]}:")
      lines += [f"  {name} = {flat[name]!r}" for name in names]
  lines.append(
    f"the model has {examined.num_parameters:,} parameters in {examined.num_arrays} "
    "arrays"
  )
  for kind, found in examined.comparison._asdict().items():
    lines.append(f"{kind}: {len(found) or 'none'}")
    lines += [f"  {line}" for line in found]
  return "\n".join(lines)


_SOURCES = {
  "file": "the configuration in the file",
  "shapes": "the shapes of the arrays",
  "name": "the file's name",
  "preset": "the preset",
  "flag": "what was asked for",
  "default": "defaults",
}


def check_fits(examined: Examined) -> None:
  """Raises UserError unless all keys and shapes match."""
  if examined.comparison:
    counts = ", ".join(
      f"{len(found)} {kind}"
      for kind, found in examined.comparison._asdict().items()
      if found
    )
    raise UserError(
      f"{examined.file.name}: does not fit the config above: {counts} (each is listed)"
    )


def check_free(out: str) -> None:
  """Raises UserError unless `out` is a local folder that is empty or missing."""
  if "://" in out:
    raise UserError(
      f"`out={out}`: expected a local folder; vdm-jax export copies it from there"
    )
  target = pathlib.Path(out)
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise UserError(f"`out={out}`: not empty")


def write(examined: Examined, out: str) -> None:
  """Writes the workdir, all or nothing.

  It holds one checkpoint, in the form of `vdm-jax export`, `config.json`, and
  `config.py`, a config file with the same values for `vdm-jax train`.

  Raises:
    UserError: `out` is not empty, something does not fit, or a value is not finite.
  """
  check_free(out)
  check_fits(examined)
  published = examined.published
  params = mapping.to_params(published.entries, published.state)
  _check_finite(examined, params)
  rates = [published.ema] if published.ema else []
  meta = workdirs.describe(examined.config, "")
  meta["config"]["train"]["ema"] = rates
  meta["imported_from"] = examined.file.name
  meta["imported_at"] = datetime.datetime.now(datetime.UTC).isoformat(
    timespec="seconds"
  )
  meta["sources"] = dict(examined.sources)
  target = pathlib.Path(out).absolute()
  with atomic.aside(target) as folder:
    folder.mkdir()
    tree = {"ema": {published.ema: params}} if rates else {"params": params}
    checkpoints = checkpoint.Checkpoints(str(folder), keep_last=1)
    checkpoints.save(published.step, tree, None, meta)
    checkpoints.close()
    (folder / "config.py").write_text(config_file(examined))
    workdirs.write_description(str(folder), meta)


def config_file(examined: Examined) -> str:
  """Formats the config as Python, with each field's source as a comment."""
  name = examined.file.name
  lines = [
    f'"""The config of {name}, written by `vdm-jax import`.',
    "",
    "Comments say where each value is from. Fine-tuning, of the folder beside it:",
    "",
    "    vdm-jax train --config=THIS_FILE --init_from=FOLDER --workdir=NEW \\\\",
    "      --config.data.name=YOUR_DATA",
    '"""',
    "",
    "from ml_collections import ConfigDict",
    "",
    "",
    "def get_config():",
    "  config = ConfigDict()",
  ]
  for key, value in examined.config.items():
    if not isinstance(value, Mapping):
      lines.append(f"  config.{key} = {value!r}  # {examined.sources[key]}")
      continue
    lines += [f"  config.{key} = ConfigDict(", "    dict("]
    lines += [
      f"      {inner}={item!r},  # {examined.sources[f'{key}.{inner}']}"
      for inner, item in value.items()
    ]
    lines += ["    )", "  )"]
  return "\n".join([*lines, "  return config", ""])


def _check_finite(examined: Examined, params: Any) -> None:
  flat = traverse_util.flatten_dict(params, sep="/")
  odd = [
    entry.key
    for entry in examined.published.entries
    if not np.isfinite(flat[entry.path]).all()
  ]
  if odd:
    raise UserError(
      f"{examined.file.name}: damaged: values that are not finite in {len(odd)} "
      f"arrays, {', '.join(odd[:3])}"
    )
