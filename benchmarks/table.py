"""The tables of the benchmarks, with the machine that they were made on."""

import importlib.metadata
import os
import pathlib
import platform
import sys

import numpy as np

OURS = "vdm_jax"
HUGEPAGES = "glibc.malloc.hugetlb=1"


def rows(name: str, result: dict, parts):
  """Yields the lines of a size's table, each a dict from column to cell."""
  for part in parts:
    for side, r in result.items():
      if part not in r["seconds"]:
        continue
      gflop = r["flop"][part] / 1e9
      seconds = np.median(r["seconds"][part])
      yield {
        "size": name,
        "part": part,
        "side": side,
        "M param": f"{r['parameters'] / 1e6:.2f}",
        "GFLOP": f"{gflop:.2f}",
        "ms": f"{seconds * 1e3:.1f}",
        "best ms": f"{min(r['seconds'][part]) * 1e3:.1f}",
        "cpu s": f"{np.median(r['processor_seconds'][part]):.3f}",
        "ms/GFLOP": f"{seconds * 1e3 / gflop:.1f}",
        "GFLOP/s": f"{gflop / seconds:.0f}",
        "of forward": _of_forward(r["seconds"], part),
      }


def _of_forward(seconds, part) -> str:
  """Returns a part's time over that of the forward pass, if it was measured."""
  if "forward" not in seconds:
    return "-"
  return f"{np.median(seconds[part]) / np.median(seconds['forward']):.2f}"


def ratios(result: dict, parts) -> dict:
  """Returns medians of ours over PyTorch's better layout: time, and time per GFLOP."""
  theirs = [name for name in result if name != OURS]
  found = {}
  for part in parts if theirs else ():
    ours = result[OURS]
    best = min(theirs, key=lambda name: np.median(result[name]["seconds"][part]))
    other = result[best]
    flop = ours["flop"][part] / other["flop"][part]
    wall = [np.median(side["seconds"][part]) for side in (ours, other)]
    cpu = [np.median(side["processor_seconds"][part]) for side in (ours, other)]
    turns = np.divide(ours["seconds"][part], other["seconds"][part])
    found[part] = {
      "against": best,
      "time": wall[0] / wall[1],
      "time_per_flop": wall[0] / wall[1] / flop,
      "time_per_flop_quartiles": tuple(np.percentile(turns, (25, 75)) / flop),
      "processor_time_per_flop": cpu[0] / cpu[1] / flop,
    }
  return found


def show(table) -> None:
  """Prints rows as a table in Markdown."""
  table = list(table)
  columns = list(table[0])
  widths = {c: max(len(c), *(len(row[c]) for row in table)) for c in columns}
  left = ("size", "system", "part", "side")

  def line(row):
    cells = (
      row[c].ljust(widths[c]) if c in left else row[c].rjust(widths[c]) for c in columns
    )
    print("| " + " | ".join(cells) + " |")

  line({c: c for c in columns})
  line({c: "-" * (widths[c] - 1) + ("-" if c in left else ":") for c in columns})
  for row in table:
    line(row)
  sys.stdout.flush()


def machine() -> dict:
  """Describes the machine of the measurement."""
  model = platform.processor() or platform.machine()
  info = pathlib.Path("/proc/cpuinfo")
  if info.exists():
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
    model = names[0].split(":")[1].strip() if names else model
  return {
    "processor": model,
    "cores": len(os.sched_getaffinity(0)),
    "python": platform.python_version(),
    **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")},
    "hugepages": HUGEPAGES in os.environ.get("GLIBC_TUNABLES", ""),
  }
