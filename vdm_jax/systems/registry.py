"""Registry of the systems that a config can name, and import of the user's own."""

from collections.abc import Callable, Mapping
from typing import Any

from vdm_jax import names
from vdm_jax.errors import UserError

# What training needs of any system; samplers and protocols check for what they need.
_NEEDED = ("batch_spec", "init", "loss")

_REGISTRY: names.Registry[Callable[[Mapping[str, Any]], Any]] = names.Registry(
  "system (config.system)"
)


def register(name: str, build_system: Callable[[Mapping[str, Any]], Any]) -> None:
  """Registers a name for `config.system`, in this process.

  A run that other processes load, such as `vdm-jax sample`, must name the function
  itself instead, see `build`.

  Args:
    name: name for configs to use.
    build_system: function that builds a system from a config of plain dicts and lists.
  """
  _REGISTRY.register(name, build_system)


def build(config: Mapping[str, Any]) -> Any:
  """Builds the system that a config describes.

  `config.system` is a registered name, or a function of the user's as
  `package.module:function` or `path/to/file.py:function`. That code is imported and
  executed, even when a run is only loaded, so name and load only what you trust.

  Raises:
    UserError: `config.system` is unknown or names no such function, or a field of the
      config is invalid.
  """
  if "system" not in config:
    raise UserError("config.system: missing")
  name = config["system"]
  make = _REGISTRY.find_or_import(name)
  if not callable(make):
    raise UserError(
      f"config.system: expected a function of the config, but {name!r} is of type "
      f"{type(make).__name__}"
    )
  system = make(config)
  if missing := [method for method in _NEEDED if not hasattr(system, method)]:
    raise UserError(
      f"config.system: expected {name!r} to return a system, found a "
      f"{type(system).__name__} without {', '.join(missing)}"
    )
  return system
