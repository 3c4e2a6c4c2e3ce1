"""Conversion of a run to a file in the layout of a paper's authors, for their code.

A system needs a module `interop.NAME_write` with

    refusals(trained: Trained) -> list[str]    # what their code cannot run, by field
    write(trained: Trained) -> Written

beside the module `interop.NAME` that reads such files (`formats`). The file is read
back before it is written, to find the fields that an import cannot know from it.
"""

import ast
import dataclasses
import importlib
import pathlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from vdm_jax import systems
from vdm_jax.errors import UserError
from vdm_jax.interop import formats, mapping, torch_file, workdir
from vdm_jax.storage import workdirs
from vdm_jax.systems import sections
from vdm_jax.systems.system import DiffusionSystem

# Fields that define a model and its sampling; all others concern a run or a machine.
_SECTIONS = ("data.", "model.", "diffusion.", "task.", "sampling.", "plan.")
_NOT_ASKED = ("data.data_dir", "data.num_threads", "data.prefetch_mb", "data.pool",
              "model.remat", "model.attention")  # fmt: skip


class Trained(NamedTuple):
  """A trained model for a format to write.

  Attributes:
    config: complete config.
    system: system of that config.
    params: parameters, as arrays.
    step: step of training.
    ema: rate of the average in the arrays, as text; None for raw parameters.
  """

  config: Mapping[str, Any]
  system: DiffusionSystem
  params: Any
  step: int
  ema: str | None

  @property
  def network(self) -> Any:
    """Returns the settings of the network."""
    return self.system.network.settings


class Written(NamedTuple):
  """A file, before it is on disk.

  Attributes:
    path: name of the file, with the folder where the authors' code looks for it.
    contents: nested mappings of arrays and plain values.
    options: options of the authors' code for this model, by their names.
  """

  path: str
  contents: Any
  options: Mapping[str, Any]


class Exported(NamedTuple):
  """A file that was written.

  Attributes:
    path: path of the file.
    title: title of the format.
    options: see `Written`.
    asked: fields that the user has to set in an import, with their values.
    lost: fields, as 'NAME = VALUE', that no import can set; they concern only training.
    system: name of the format.
  """

  path: str
  title: str
  options: Mapping[str, Any]
  asked: Mapping[str, Any]
  lost: Sequence[str]
  system: str

  @property
  def command(self) -> str:
    """Returns the command that imports the file as the same model."""
    words = ["vdm-jax", "import", f"--system={self.system}", self.path, "--out=DIR"]
    words += [f"--set={name}={_literal(value)}" for name, value in self.asked.items()]
    return shlex.join(words)


def unlike(
  section: str, values: Mapping[str, Any], theirs: Mapping[str, Sequence[Any]]
) -> list[str]:
  """Lists the fields whose values the authors' code does not support.

  Args:
    section: section of the config.
    values: values by field.
    theirs: supported values by field.
  """
  return [
    f"config.{section}.{name} = {values[name]!r} (there: "
    f"{' or '.join(map(repr, known))})"
    for name, known in theirs.items()
    if formats.plain(values[name]) not in map(formats.plain, known)
  ]


def state_dict(entries: Iterable[mapping.Entry], params: Any) -> dict[str, np.ndarray]:
  """Makes a float32 state dict in the authors' layout.

  Raises:
    ValueError: the parameters are not those of the entries; see `mapping.compare`.
  """
  entries = list(entries)
  mapping.state_shapes(entries, params)
  state = mapping.to_state(entries, params)
  return {key: np.asarray(array, np.float32) for key, array in state.items()}


def export(run: str, out: str, **pick: Any) -> Exported:
  """Writes a checkpoint in the format of a paper's authors.

  Args:
    run: workdir of a run, or an export.
    out: a local folder, for a file with the name that the authors' code uses.
    **pick: `ema`, `step` and `best` of `workdirs.read_weights`.

  Raises:
    UserError: no layout is known for this system; the authors' code cannot run this
      model (each field is named); the file exists already; PyTorch is missing.
  """
  torch_file.check_installed()
  if "://" in str(out) or pathlib.Path(out).is_file():
    raise UserError(f"{out}: expected a local folder")
  params, info = workdirs.read_weights(run, **pick)
  config = info["config"]
  name = config["system"]
  if name not in formats.NAMES:
    raise UserError(
      f"{run}: config.system is {name!r}, of which no layout of checkpoints was "
      f"published; expected {', '.join(formats.NAMES)}. A safetensors file holds the "
      "weights of every system"
    )
  form = formats.load(name)
  writer = importlib.import_module(f"vdm_jax.interop.{name}_write")
  trained = Trained(config, systems.build(config), params, info["step"], info["ema"])
  refusals = writer.refusals(trained)
  if refusals:
    raise UserError(
      f"{run}: the code of {form.TITLE}'s authors cannot run this model: "
      f"{'; '.join(refusals)}. A safetensors file holds it as it is"
    )
  written = writer.write(trained)
  target = pathlib.Path(out) / written.path
  if target.exists():
    raise UserError(f"{target}: there already; nothing is written over")
  asked, lost = _untold(form, written, config)
  _check_reads_back(name, written, asked)
  torch_file.write(target, written.contents)
  return Exported(str(target), form.TITLE, written.options, asked, lost, name)


def _literal(value: Any) -> str:
  """Formats a value for --set: as Python, but text without quotes where possible."""
  if not isinstance(value, str):
    return repr(value)
  try:
    ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return value or "''"
  return repr(value)


def _file(written: Written) -> formats.File:
  return formats.File(pathlib.PurePath(written.path).name, written.contents)


def _untold(
  form: Any, written: Written, config: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
  """Finds the fields `asked` and `lost` of `Exported`."""
  ours = {name: value for name, value in _flatten(config).items() if _matters(name)}
  asked: dict[str, Any] = {}
  while True:
    fields = formats.Fields(asked)
    form.read(_file(written), fields)
    read = _flatten(fields.config())
    # Another task or plan has other fields.
    foreign = tuple(
      f"{section}."
      for section in ("task", "plan")
      if read[f"{section}.name"] != ours.get(f"{section}.name")
    )
    more = {
      name: value
      for name, value in ours.items()
      if name in read and read[name] != value and fields.sources[name] != "shapes"
      and not name.startswith(foreign)
    }  # fmt: skip
    if not more:
      break
    asked |= more  # Others may depend on these.
  lost = [
    f"config.{name} = {value!r}"
    for name, value in ours.items()
    if name not in read
    and name.startswith("diffusion.")
    and _tells(name, value, config)
  ]
  return asked, lost


def _matters(name: str) -> bool:
  """Returns whether a field defines the model or its sampling."""
  known = name == "dtype" or name.startswith(_SECTIONS)
  return known and name not in _NOT_ASKED


def _tells(name: str, value: Any, config: Mapping[str, Any]) -> bool:
  """Returns whether a field of the diffusion differs from what is implied."""
  field = name.removeprefix("diffusion.")
  if field.startswith("logsnr"):  # Only continuous schedules use it.
    return False
  if field == "loss_space":
    return value not in ("", config["diffusion"]["predict"])
  defaults = {f.name: f.default for f in dataclasses.fields(sections.Diffusion)}
  return value != defaults.get(field)


def _check_reads_back(name: str, written: Written, asked: Mapping[str, Any]) -> None:
  """Checks that an import takes the file; ValueError, as it is our fault, if not."""
  comparison = workdir.examine(name, _file(written), asked).comparison
  if comparison:
    raise ValueError(f"{written.path}: does not read back: {comparison}")


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Flattens a config to JSON values by dotted name."""
  flat = traverse_util.flatten_dict(dict(config), sep=".")
  return {name: formats.plain(value) for name, value in flat.items()}
