"""Configs by name: those of the papers, small ones for a CPU, and a template.

    from vdm_jax import configs

    config = configs.get("vdm_ucf101:chips=8", train={"num_steps": 1000})

The files are in the checkout's `configs/`, to which `vdm_jax.configs` is a link. Each
has `get_config`, which the command line also calls for `--config=NAME`.
"""

import importlib
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from vdm_jax import errors
from vdm_jax.errors import UserError

_FOLDER = pathlib.Path(__file__).parent


def names() -> list[str]:
  """Lists the names of all configs."""
  return sorted(
    p.stem for p in _FOLDER.glob("*.py") if not p.stem.startswith(("__", "common"))
  )


def path(name: str) -> pathlib.Path:
  """Finds the file of a config.

  Raises:
    UserError: there is no config of that name.
  """
  if name not in names():
    raise errors.unknown("config", name, names())
  return _FOLDER / f"{name}.py"


def get(name: str, **sections: Mapping[str, Any]) -> ConfigDict:
  """Makes a config.

  Args:
    name: name of a config, with its argument after a colon.
    **sections: fields to change, `train={"num_steps": 20}`; a field outside any section
      by itself, `seed=1`.

  Raises:
    UserError: there is no such config or no such field, or the argument is invalid.
  """
  stem, _, argument = name.partition(":")
  path(stem)
  module = importlib.import_module(f"vdm_jax.configs.{stem}")
  try:
    config = module.get_config(argument) if argument else module.get_config()
  except (TypeError, ValueError) as error:
    raise UserError(f"config {name!r}: {error}") from error
  for section, values in sections.items():
    _change(config, section, values, section)
  return config


def _change(config: ConfigDict, field: str, value: Any, path: str) -> None:
  if field not in config:
    raise errors.unknown(f"config.{path}", field, config)
  if isinstance(value, Mapping) and isinstance(config[field], ConfigDict):
    for inner, new in value.items():
      _change(config[field], inner, new, f"{path}.{inner}")
    return
  try:
    config[field] = value
  except TypeError as error:
    raise UserError(f"config.{path}: {error}") from error
