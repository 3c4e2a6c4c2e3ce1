"""The data sets that vdm_jax builds, one module each.

A new one is a `records.ChunkBuilder` in a module here and a line in `BUILDERS`.
Modules are imported on demand, as a builder may need an extra.
"""

import dataclasses
import importlib
from typing import Any

from etils import epath

from vdm_jax import errors, names

# Modules and the classes in them.
BUILDERS: names.Registry[tuple[str, str]] = names.Registry("data set", {
  "bair": ("vdm_jax.data.builders.bair", "BAIR"),
  "carla": ("vdm_jax.data.builders.carla", "Carla"),
  "cityscapes": ("vdm_jax.data.builders.cityscapes", "Cityscapes"),
  "fluid": ("vdm_jax.data.builders.fluid", "Fluid"),
  "gqn_mazes": ("vdm_jax.data.builders.gqn_mazes", "GqnMazes"),
  "kinetics600": ("vdm_jax.data.builders.kinetics600", "Kinetics600"),
  "kth": ("vdm_jax.data.builders.kth", "KTH"),
  "maze": ("vdm_jax.data.builders.maze", "Maze"),
  "minerl": ("vdm_jax.data.builders.minerl", "Minerl"),
  "moving_digits": ("vdm_jax.data.builders.moving_digits", "MovingDigits"),
  "ucf101": ("vdm_jax.data.builders.ucf101", "Ucf101"),
  "video_folder": ("vdm_jax.data.builders.video_folder", "VideoFolder"),
})  # fmt: skip


def builder_class(dataset: str):
  """Finds the `ChunkBuilder` subclass called `dataset`; UserError if there is none."""
  module, attribute = BUILDERS.find(dataset)
  return getattr(importlib.import_module(module), attribute)


def parse(name: str, **options: Any):
  """Parses a name like "moving_digits/16px_1digit_8frames": (builder class, config).

  Args:
    name: data set and config name, separated by a slash; the latter may be left out.
    **options: fields of the builder's config, which override the config name.

  Raises:
    UserError: the data set, the config or an option is unknown.
  """
  dataset, _, config_name = name.partition("/")
  cls = builder_class(dataset)
  known = [field.name for field in dataclasses.fields(cls.CONFIG)]
  for option in options:
    if option not in known:
      raise errors.unknown(f"option of data set {dataset!r}", option, known)
  return cls, cls.parse(config_name, **options)


def build(
  name: str,
  *,
  data_dir: epath.PathLike | None = None,
  overwrite: bool = False,
  **options: Any,
) -> epath.Path:
  """Builds a data set or resumes its build; one that exists is kept.

  Args:
    name: name as for `parse`, such as "video_folder/mine".
    data_dir: folder of the data sets; None for $VDM_JAX_DATA, or ~/vdm_jax_data.
    overwrite: whether to build it anew.
    **options: options of the data set, such as `path`, the folder of the videos.

  Returns:
    The folder of the data set.

  Raises:
    UserError: there is no such data set or option, or the files do not fit.
  """
  from vdm_jax.data import records
  from vdm_jax.data import source as sources

  cls, config = parse(name, **options)
  where = epath.Path(data_dir) if data_dir else sources.default_data_dir()
  return records.build(cls, config, where, overwrite=overwrite)
