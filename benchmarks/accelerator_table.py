"""The output of `benchmarks/accelerator.py`: table, notes, ratios and profiles."""

import numpy as np

from benchmarks import table


def show(report: dict, rates: dict[str, float]) -> None:
  """Prints the table, the notes, the ratios and the profiles.

  Args:
    report: `rows` by name, each with its `sides`.
    rates: measured, FLOP/s, of the devices that a row has; 0 for unknown.
  """
  sides = [
    (name, side, found)
    for name, row in report["rows"].items()
    for side, found in row["sides"].items()
  ]
  cells = [line for one in sides for line in lines(*one, rates[one[0]])]
  if cells:
    print()
    table.show(cells)
  said = [note for one in sides for note in notes(*one)]
  print("\n" * bool(said) + "\n".join(said))
  for name, row in report["rows"].items():
    for part, r in row.get("ratios", {}).items():
      low, high = r["time_per_flop_quartiles"]
      print(
        f"{name} {part}: ours is {1 / r['time_per_flop']:.2f} times as fast as "
        f"{r['against']} per TFLOP ({1 / high:.2f} to {1 / low:.2f}), "
        f"{1 / r['time']:.2f} times by the clock"
      )
  for name, side, found in sides:
    if "profile" in found:
      show_profile(f"{name} ({side})", found["profile"])


def lines(name: str, side: str, found: dict, rate: float):
  """Yields the lines of the table for one side of a row.

  Args:
    name: name of the row.
    side: name of the side.
    found: measurements of the side.
    rate: measured FLOP/s of its devices; 0 for unknown.
  """
  batch = found.get("batch", found.get("batch_per_device", "-"))
  parameters = found.get("parameters")
  head = {
    "system": name,
    "part": "",
    "side": side,
    "batch": str(batch),
    "M param": f"{parameters / 1e6:.1f}" if parameters else "-",
  }
  rest = ("TFLOP", "ms", "videos/s", "TFLOP/s", "share", "compile s", "GiB")
  for part, one in found["parts"].items():
    if "error" in one:
      yield {**head, "part": f"{part}: failed", **dict.fromkeys(rest, "-")}
      continue
    seconds, flop = float(np.median(one["seconds"])), one["flop"]
    memory = one.get("memory")
    gib = sum(memory.values()) / 2**30 if memory else None
    cells = (
      f"{flop / 1e12:.3g}",
      f"{seconds * 1e3:.2f}",
      f"{batch / seconds:.1f}",
      f"{flop / seconds / 1e12:.3g}",
      f"{flop / seconds / rate:.0%}" if rate else "-",
      f"{one['compile_seconds']:.1f}",
      "-" if gib is None else f"{gib:.1f}",
    )
    yield {**head, "part": part, **dict(zip(rest, cells, strict=True))}
  if "error" in found:
    yield {**head, "part": "failed", **dict.fromkeys(rest, "-")}


def notes(name: str, side: str, found: dict):
  """Yields what the table has no room for, a line each."""
  where = f"{name} ({side})"
  for note in found.get("notes", ()):
    yield f"{where}: {note}"
  if found.get("memory_peak"):
    yield f"{where}: peak of memory {found['memory_peak'] / 2**30:.1f} GiB a device"
  for part, one in found["parts"].items():
    if "error" in one:
      yield f"{where}, {part}: {one['error']}"
  if "error" in found:
    yield f"{where}: {found['error']}"
  if found.get("left_out"):
    yield f"{where}: no time for {', '.join(found['left_out'])}"
  if found.get("stopped"):
    yield f"{where}: stopped, the time was up"


def ratios(sides: dict) -> dict:
  """Compares the parts that both sides measured, as `table.ratios` does."""
  plain = {
    side: {
      "flop": {part: one["flop"] for part, one in timed.items()},
      "seconds": {part: one["seconds"] for part, one in timed.items()},
      "processor_seconds": {p: one["processor_seconds"] for p, one in timed.items()},
    }
    for side, found in sides.items()
    if (timed := {p: o for p, o in found["parts"].items() if "error" not in o})
  }
  if table.OURS not in plain:
    return {}
  # A format that has no such part in time is no rival in it.
  return {
    part: table.ratios({s: r for s, r in plain.items() if part in r["flop"]}, [part])[
      part
    ]
    for part in plain[table.OURS]["flop"]
    if any(part in r["flop"] for s, r in plain.items() if s != table.OURS)
  }


def show_profile(name: str, found: dict) -> None:
  """Prints the costly kernels of a row."""
  if "error" in found:
    print(f"\n{name}: no profile of {found['part']}: {found['error']}")
    return
  print(
    f"\n{name}, {found['part']}: kernels {found['device_seconds'] * 1e3:.1f} ms a "
    f"device, which was busy {found['busy']:.0%} of the traced time"
  )
  for kernel in found["kernels"]:
    print(
      f"  {kernel['share']:6.1%} {kernel['seconds'] * 1e3:9.2f} ms "
      f"{kernel['calls']:6.0f} x {kernel['name'][:70]}  {kernel['origin'][-60:]}"
    )
