"""Collectives and loops of a compiled module, read from its text."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "collective-permute",
)
_SHAPE = re.compile(r"\b(pred|bf16|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]")
_OPCODE = re.compile(r"([a-z][a-z0-9-]*)\(")
_CALLED = re.compile(r"\b(?:calls|to_apply|called_computations)=\{?%?([\w.-]+)")
_LOOP = re.compile(r"condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INDEX = re.compile(r"index=(\d+)")
_INTEGER = re.compile(r" = [su]32\[\]")
_CONSTANT = re.compile(r" = [su]32\[\]\S* constant\((\d+)\)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_BRANCHES = re.compile(
  r"branch_computations=\{([^}]+)\}|(?:true|false)_computation=([^,\s]+)"
)
# The workspace of a library's kernel, its last result, which is mostly not touched.
_WORKSPACE = re.compile(r", [su]8\[(\d+)\]\{0\}\) custom-call\(")
_PARAMETER = re.compile(r" parameter\((\d+)\)")
_SLICES = {"dynamic-slice", "slice", "gather"}
# These move no data; loops and branches are counted by their contents.
_FREE = {
  "after-all",
  "bitcast",
  "call",
  "conditional",
  "constant",
  "get-tuple-element",
  "parameter",
  "partition-id",
  "tuple",
  "while",
}


class Instruction(NamedTuple):
  """One line of a computation, with sizes in bytes."""

  name: str
  opcode: str
  size: int
  operands: tuple[str, ...]
  text: str


class Module:
  """The computations of a compiled module.

  Attributes:
    computations: instructions by computation.
    entry: name of the computation that runs.
  """

  def __init__(self, text: str):
    self.computations: dict[str, list[Instruction]] = {}
    self.entry = ""
    body: list[Instruction] = []
    for line in text.splitlines():
      if line[:1] in ("%", "E") and line.endswith("{"):
        name = re.match(r"(?:ENTRY )?%?([\w.-]+)", line)[1]
        body = self.computations.setdefault(name, [])
        if line.startswith("ENTRY"):
          self.entry = name
      elif " = " in line[:200]:
        body.append(_parse(line))

  def collectives(self) -> dict[str, dict[str, int]]:
    """Counts collectives, and the bytes into or out of them, per device and run."""
    found: dict[str, dict[str, int]] = {}
    gathers: set[str] = set()
    for times, instruction, sizes in self.executed(inside=True):
      kind = instruction.opcode.removesuffix("-start")
      if kind not in COLLECTIVES:
        continue
      channel = _CHANNEL.search(instruction.text)
      if kind == "all-gather" and channel:
        # An asynchronous collective appears in each fusion that runs beside it.
        if channel[1] in gathers:
          continue
        gathers.add(channel[1])
      read = sum(sizes.get(name, 0) for name in instruction.operands)
      written = instruction.size
      if instruction.opcode.endswith("-start"):
        written = max(written - read, 0)  # The result repeats the operands.
      total = found.setdefault(kind, {"count": 0, "bytes": 0})
      total["count"] += times
      total["bytes"] += times * max(read, written)
    return found

  def traffic(self) -> int:
    """Counts the bytes that fused operations read and write in a run on a device.

    Loops are multiplied out. A slice counts as what it takes from its operand, and an
    update in place as what it writes.
    """
    return self._traffic(self.entry)

  def executed(
    self, inside: bool = False
  ) -> Iterator[tuple[int, Instruction, dict[str, int]]]:
    """Yields how often each instruction runs, the instruction, and sizes around it.

    Loops are multiplied out; of a conditional the branch counts that moves most.

    Args:
      inside: whether to yield fused instructions, too.
    """
    return self._executed(self.entry, 1, inside)

  def called(self, instruction: Instruction) -> list[Instruction]:
    """Lists the instructions fused into one, or called by it."""
    found = _CALLED.search(instruction.text)
    return self.computations.get(found[1], []) if found else []

  def _traffic(self, name: str) -> int:
    """Counts the bytes that one run of a computation moves."""
    return sum(
      times * self._moved(instruction, sizes)
      for times, instruction, sizes in self._executed(name, 1, inside=False)
      if instruction.opcode not in _FREE
    )

  def _moved(self, instruction: Instruction, sizes: dict[str, int]) -> int:
    read = [sizes.get(name, 0) for name in instruction.operands]
    if instruction.opcode.endswith("-done"):
      return 0  # Counted at its start, whose tuple holds operands and results.
    if instruction.opcode == "all-reduce-start":
      return sum(read) + instruction.size  # Only its result does not repeat operands.
    if instruction.opcode.endswith("-start"):
      return instruction.size
    if instruction.opcode in _SLICES:
      return 2 * instruction.size
    if instruction.opcode == "dynamic-update-slice":
      return 2 * read[1]
    if instruction.opcode == "custom-call":
      workspace = _WORKSPACE.search(instruction.text)
      return sum(read) + instruction.size - (int(workspace[1]) if workspace else 0)
    called = _CALLED.search(instruction.text)
    if instruction.opcode != "fusion" or not called:
      return sum(read) + instruction.size
    inner = self.computations.get(called[1], [])
    within = {i.name: i.size for i in inner}
    taken: dict[str, int] = {}  # Bytes of parameters that are only sliced.
    whole: set[str] = set()
    in_place = written = 0
    for i in inner:
      for position, name in enumerate(i.operands):
        if i.opcode in _SLICES and position == 0:
          taken[name] = taken.get(name, 0) + i.size
        elif i.opcode == "dynamic-update-slice" and position == 0:
          taken.setdefault(name, 0)
        else:
          whole.add(name)
      if i.opcode == "dynamic-update-slice":
        in_place += i.size
        written += within.get(i.operands[1], 0)
    for i in inner:
      if i.opcode == "parameter" and i.name in taken and i.name not in whole:
        number = int(_PARAMETER.search(i.text)[1])
        read[number] = min(read[number], taken[i.name])
    return sum(read) + max(instruction.size - in_place, 0) + written

  def _executed(
    self, name: str, times: int, inside: bool
  ) -> Iterator[tuple[int, Instruction, dict[str, int]]]:
    """Yields instructions with how often they run; with `inside` fused ones, too."""
    instructions = self.computations.get(name, [])
    sizes = {i.name: i.size for i in instructions}
    for instruction in instructions:
      yield times, instruction, sizes
      text = instruction.text
      if instruction.opcode == "while":
        body = _LOOP.search(text)[2]
        trips = self._trips(instruction, instructions)
        yield from self._executed(body, times * trips, inside)
      elif instruction.opcode == "conditional":
        found = ",".join(a or b for a, b in _BRANCHES.findall(text)).split(",")
        branch = max((name.strip(" %") for name in found), key=self._traffic)
        yield from self._executed(branch, times, inside)
      elif instruction.opcode == "call" or (
        inside and instruction.opcode in ("fusion", "async-start")
      ):
        for called in _CALLED.findall(text):
          yield from self._executed(called, times, inside)

  def _trips(self, loop: Instruction, around: list[Instruction]) -> int:
    """Counts how often a loop's body runs.

    The TPU compiler does not always annotate this. Loops count from one constant to
    another, by 1 or, if they were unrolled, by more.
    """
    known = _TRIPS.search(loop.text)
    if known:
      return int(known[1])
    condition, body = (self.computations.get(name, [])
                       for name in _LOOP.search(loop.text).groups())  # fmt: skip
    bound = max(self._constants(condition), default=1)
    counters = [
      int(_INDEX.search(i.text)[1])
      for i in condition
      if i.opcode == "get-tuple-element" and _INTEGER.search(i.text)
    ]
    if len(counters) != 1:
      return bound
    start = self._element(around, loop.operands[:1], counters[0])
    first = max(self._constants([start]), default=0) if start else 0
    end = [i for i in body if i.text.lstrip().startswith("ROOT ")]
    changed = self._element(body, [end[0].name], counters[0]) if end else None
    if changed is None:
      return max(bound - first, 0)
    fused = _CALLED.search(changed.text)
    inner = self.computations.get(fused[1], []) if fused else []
    operands = [i for i in body if i.name in changed.operands]
    step = max(self._constants([*operands, *inner]), default=1)
    return max(-(-(bound - first) // max(step, 1)), 0)

  @staticmethod
  def _constants(instructions: Iterable[Instruction]) -> list[int]:
    """Finds the values of integer constants among instructions."""
    found = (_CONSTANT.search(i.text) for i in instructions if i.opcode == "constant")
    return [int(match[1]) for match in found if match]

  @staticmethod
  def _element(instructions, names, number) -> Instruction | None:
    """Finds the instruction behind an element of a tuple made by `instructions`."""
    by_name = {i.name: i for i in instructions}
    made = next((by_name[name] for name in names if name in by_name), None)
    if made is None or made.opcode != "tuple" or number >= len(made.operands):
      return None
    found = by_name.get(made.operands[number])
    while found is not None and found.opcode == "copy":
      found = by_name.get(found.operands[0])
    return found


def _parse(line: str) -> Instruction:
  name, _, rest = line.partition(" = ")
  name = name.strip().removeprefix("ROOT ").lstrip("%")
  end = _shape_end(rest)
  shape, rest = rest[:end], rest[end:].lstrip()
  match = _OPCODE.match(rest)
  if not match:
    return Instruction(name, "", 0, (), "")
  operands = rest[match.end() : _closing(rest, match.end() - 1)]
  return Instruction(
    name=name,
    opcode=match[1],
    size=_size(shape),
    operands=tuple(re.findall(r"%([\w.-]+)", operands)),
    text=line,
  )


def _shape_end(text: str) -> int:
  depth = 0
  for i, char in enumerate(text):
    depth += (char in "({[") - (char in ")}]")
    if char == " " and depth == 0:
      return i
  return len(text)


def _closing(text: str, start: int) -> int:
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == "(") - (text[i] == ")")
    if depth == 0:
      return i
  return len(text)


def _size(shape: str) -> int:
  total = 0
  for dtype, bits, dims in _SHAPE.findall(shape):
    width = 16 if dtype == "bf16" else 8 if dtype == "pred" else int(bits)
    total += math.prod(int(n) for n in dims.split(",") if n) * width // 8
  return total
