"""Registry of the protocols of `vdm-jax eval`.

Another protocol is a dataclass as `protocol` describes it, registered here.
"""

import dataclasses
from typing import Any

from vdm_jax import errors
from vdm_jax.errors import UserError
from vdm_jax.evaluation.bits_protocol import Bits
from vdm_jax.evaluation.calls_protocol import Calls
from vdm_jax.evaluation.forecast_protocol import Forecast
from vdm_jax.evaluation.fvd_protocol import Fvd
from vdm_jax.evaluation.images_protocol import Images
from vdm_jax.evaluation.positions import Position
from vdm_jax.evaluation.protocol import EvaluationProtocol
from vdm_jax.evaluation.walk_protocol import WalkProtocol

_REGISTRY: dict[str, type[EvaluationProtocol]] = {}


def register(protocol: type[EvaluationProtocol]) -> None:
  """Registers a protocol for `--protocol`."""
  _REGISTRY[protocol.name] = protocol


def known() -> dict[str, type[EvaluationProtocol]]:
  """Lists all protocols by name."""
  return dict(_REGISTRY)


def build(name: str, settings: dict[str, Any]) -> EvaluationProtocol:
  """Builds a protocol with some settings and defaults for the others.

  Raises:
    UserError: there is no such protocol, or it has no such setting.
  """
  if name not in _REGISTRY:
    raise errors.unknown("protocol (--protocol)", name, _REGISTRY)
  fields = {field.name for field in dataclasses.fields(_REGISTRY[name])}
  for key in settings:
    if key not in fields:
      raise UserError(
        f"--{key}: protocol {name!r} has no such setting, it has "
        f"{', '.join(sorted(fields))}"
      )
  return _REGISTRY[name](**settings)


for _protocol in (Fvd, Forecast, Images, Bits, Calls, Position, WalkProtocol):
  register(_protocol)
