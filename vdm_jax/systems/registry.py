"""Which systems a config can name."""

from collections.abc import Callable, Mapping
from typing import Any

from vdm_jax import errors

_REGISTRY: dict[str, Callable[[Mapping[str, Any]], Any]] = {}


def register(name: str, build_system: Callable[[Mapping[str, Any]], Any]) -> None:
  """Makes a system nameable as `config.system`."""
  _REGISTRY[name] = build_system


def build(config: Mapping[str, Any]) -> Any:
  """The system that a config describes.

  Raises:
    UserError: `config.system` is unknown, or a field of the config is refused.
  """
  name = config["system"]
  if name not in _REGISTRY:
    raise errors.unknown("system (config.system)", name, _REGISTRY)
  return _REGISTRY[name](config)
