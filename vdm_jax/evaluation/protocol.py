"""The interface of the protocols of `vdm-jax eval`.

A protocol is a frozen dataclass. Its fields are everything that a published number
depends on, each with a default and a line of help; they become the flags of the command
and are written beside the numbers.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np
from etils import epath

import vdm_jax
from vdm_jax import atomic, processes
from vdm_jax.errors import UserError


class Outcome(NamedTuple):
  """The result of a protocol.

  Attributes:
    result: the numbers, JSON-serialisable; NaN where nothing could be measured.
    table: the same as text.
  """

  result: dict[str, Any]
  table: str


class EvaluationProtocol(Protocol):
  """The interface of a protocol, see the module's text."""

  name: ClassVar[str]
  # Whether several processes can share the work.
  several: ClassVar[bool] = False

  def run(self, out: epath.Path) -> Outcome:
    """Measures, and may write figures to the folder `out`.

    Raises:
      UserError: a setting is missing or does not fit what it names.
    """
    ...


def setting(default: Any, help: str) -> Any:
  """Makes a field of a protocol; a tuple of strings is a flag that may be repeated."""
  return dataclasses.field(default=default, metadata={"help": help})


def check_least(protocol: EvaluationProtocol, **least: float) -> None:
  """Raises UserError unless settings are numbers of at least some values.

  Args:
    protocol: the protocol with its settings.
    **least: smallest allowed value of each setting.
  """
  for name, smallest in least.items():
    value = getattr(protocol, name)
    if not smallest <= value < math.inf:  # Neither infinite nor NaN.
      raise UserError(f"`{name}`: expected >= {smallest:g}, found {value}")


def evaluate(protocol: EvaluationProtocol, out: epath.PathLike) -> Outcome:
  """Runs a protocol and writes results.json and table.txt to `out`.

  Raises:
    UserError: as in `run`, or `out` holds results already.
  """
  out = epath.Path(out)
  if (out / "results.json").exists():
    raise UserError(f"`out={out}`: holds results already; choose another folder")
  if jax.process_count() > 1 and not getattr(protocol, "several", False):
    raise UserError(
      f"protocol {protocol.name} runs in one process, found {jax.process_count()}"
    )
  processes.wait("out is free")  # Before the first one writes into it.
  outcome = protocol.run(out)
  if not processes.is_first():
    return outcome
  out.mkdir(parents=True, exist_ok=True)
  (out / "table.txt").write_text(outcome.table + "\n")
  # Written last, so that a folder that has it is complete.
  results = {**describe(protocol), **outcome.result}
  atomic.write(out / "results.json", as_json(results))
  return outcome


def describe(protocol: EvaluationProtocol) -> dict[str, Any]:
  """Returns name, settings and version, which identify the numbers."""
  return {
    "protocol": protocol.name,
    "settings": dataclasses.asdict(protocol),
    "vdm_jax": vdm_jax.__version__,
  }


def as_json(value: Any) -> str:
  """Converts dicts, lists and arrays to strict JSON; non-finite numbers become null."""

  def plain(value):
    if isinstance(value, Mapping):
      return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
      return plain(value.tolist())
    if isinstance(value, list | tuple):
      return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
      return None
    return value

  return json.dumps(plain(value), indent=2) + "\n"
