"""Where a TPU would spend its time, by the compiler's own estimates.

The TPU compiler annotates operations with the cycles that it expects. They serve to
choose between forms of a program and show what is worth a look. Collectives and
hand-written kernels have none, and waiting for memory or other chips is not included.
With little effort (O0) they are several times larger than with much.
"""

import re
from collections.abc import Iterator
from typing import Any

from vdm_jax.preflight import chips, hlo

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_LAYER = re.compile(r"(?:^|[/_])attention(?:_(space|time))?(?=/|$)")
_MOVES = {
  "bitcast",
  "broadcast",
  "concatenate",
  "constant",
  "convert",
  "copy",
  "get-tuple-element",
  "iota",
  "pad",
  "parameter",
  "reshape",
  "slice",
  "transpose",
  "tuple",
}
_COSTLY = 10


def estimate(
  module: hlo.Module, chip: chips.Tpu, repeats: int, flops: float
) -> dict[str, Any]:
  """Adds up a program's estimated cycles, with loops multiplied out.

  Args:
    module: module compiled for TPU.
    chip: chip that it is for.
    repeats: how often the reported part runs in the program.
    flops: operations of the reported part on a chip, a multiply-add as two.

  Returns:
    ms: total time of one repeat.
    clock: assumed cycles per second.
    share_of_peak: `flops` over the chip's peak in that time.
    kinds: `ms` and `count` by kind of operation, costliest first. An attention layer
      counts as one kind, with its dense layers, norms and copies.
    costly: `ms`, `count`, `kind` and `source` (place in the program) of the ten
      costliest; operations of the same source count as one.
    without: counts of operations without an estimate.
  """
  kinds: dict[str, list[float]] = {}
  sources: dict[tuple[str, str], list[float]] = {}
  without: dict[str, float] = {}
  for times, instruction, _ in module.executed():
    found = _CYCLES.search(instruction.text)
    if not found:
      name = _without(instruction)
      if name:
        without[name] = without.get(name, 0) + times / repeats
      continue
    kind, source = _describe(module, instruction)
    for table, key in ((kinds, kind), (sources, (kind, source))):
      total = table.setdefault(key, [0, 0])
      total[0] += int(found[1]) * times / repeats
      total[1] += times / repeats

  def told(total):
    return {"ms": 1e3 * total[0] / chip.clock, "count": total[1]}

  seconds = sum(total[0] for total in kinds.values()) / chip.clock
  costly = sorted(sources.items(), key=lambda item: -item[1][0])[:_COSTLY]
  return {
    "ms": 1e3 * seconds,
    "clock": chip.clock,
    "share_of_peak": flops / (seconds * chip.flops) if seconds else None,
    "kinds": {
      kind: told(total)
      for kind, total in sorted(kinds.items(), key=lambda item: -item[1][0])
    },
    "costly": [
      {**told(total), "kind": kind, "source": source}
      for (kind, source), total in costly
    ],
    "without": without,
  }


def _without(instruction: hlo.Instruction) -> str | None:
  """Names the kind of an operation without an estimate, if it may take time."""
  opcode = instruction.opcode
  if opcode.removesuffix("-start") in hlo.COLLECTIVES:
    return "collectives"
  if opcode == "custom-call" and "tpu_custom_call" in instruction.text:
    return "kernels"
  return "other fusions" if opcode == "fusion" else None


def _describe(module: hlo.Module, instruction: hlo.Instruction) -> tuple[str, str]:
  """Returns (kind, source) of an operation."""
  parts = [instruction, *_inside(module, instruction)]
  # The TPU compiler turns all products into convolutions; the source tells them apart.
  products = [part for part in parts if part.opcode in ("convolution", "dot")]
  named = (_SOURCE.search(part.text) for part in (*products, *parts))
  source = next((found[1] for found in named if found), instruction.name)
  layer = _LAYER.search(source)
  if layer:
    return f"attention over {layer[1]}" if layer[1] else "attention", source
  if products:
    return "dot" if "dot_general" in source.rpartition("/")[
      2
    ] else "convolution", source
  opcodes = {part.opcode for part in parts if part.opcode != "fusion"}
  if "gather" in opcodes or "scatter" in opcodes:
    return "gather or scatter", source
  if opcodes <= _MOVES:
    return "copy", source
  return "elementwise or sum", source


def _inside(
  module: hlo.Module, instruction: hlo.Instruction
) -> Iterator[hlo.Instruction]:
  """Lists what is fused into an operation."""
  if instruction.opcode == "fusion":
    for part in module.called(instruction):
      yield part
      yield from _inside(module, part)
