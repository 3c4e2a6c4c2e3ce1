"""Registry of the protocols of `vdm-jax eval`.

Another protocol is a dataclass as `protocol` describes it, registered here.
"""

import dataclasses
from typing import Any

from vdm_jax import names
from vdm_jax.errors import UserError
from vdm_jax.evaluation.bits_protocol import Bits
from vdm_jax.evaluation.calls_protocol import Calls
from vdm_jax.evaluation.forecast_protocol import Forecast
from vdm_jax.evaluation.fvd_protocol import Fvd
from vdm_jax.evaluation.images_protocol import Images
from vdm_jax.evaluation.positions import Position
from vdm_jax.evaluation.protocol import EvaluationProtocol
from vdm_jax.evaluation.walk_protocol import WalkProtocol

_REGISTRY: names.Registry[type[EvaluationProtocol]] = names.Registry("protocol")


def register(protocol: type[EvaluationProtocol]) -> None:
  """Makes a protocol nameable."""
  _REGISTRY.register(protocol.name, protocol)


def known() -> dict[str, type[EvaluationProtocol]]:
  """Lists all protocols by name."""
  return dict(_REGISTRY)


def build(name: str, settings: dict[str, Any]) -> EvaluationProtocol:
  """Builds a protocol with some settings and defaults for the others.

  Raises:
    UserError: there is no such protocol, or it has no such setting.
  """
  protocol = _REGISTRY.find(name)
  fields = {field.name for field in dataclasses.fields(protocol)}
  for key in settings:
    if key not in fields:
      raise UserError(
        f"`{key}`: protocol {name!r} has no such setting, it has "
        f"{', '.join(sorted(fields))}"
      )
  return protocol(**settings)


for _protocol in (Fvd, Forecast, Images, Bits, Calls, Position, WalkProtocol):
  register(_protocol)
