"""Formats many preflights as one page of Markdown, `docs/results/preflight.md`.

    python -m vdm_jax.preflight.table RESULT.json ... > docs/results/preflight.md

Each RESULT.json is the output of one `vdm-jax preflight --json`, and its name is that
of a row. The page says how they are made.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vdm_jax.preflight import summary
from vdm_jax.preflight.chips import GIB

_HEAD = """# Preflight: does every paper's model fit?

The real sharded training step, compiled by the TPU compiler for the slice named, on
a machine without a TPU. Nothing here was run on one.

- Compiled on {date} with {versions}.
- A row `NAME` is `--config=configs/NAME.py` on that config's slice (VDM's: the paper's
  number of chips); `NAME-8`, of VDM alone, is `--config=configs/NAME.py:chips=8`, the
  same training with settings that fit eight small chips.
- Memory and work are per chip. Memory is the compiler's (arguments: weights, one
  average, Adam's two moments, the batch; temporaries: gradients and activations;
  the total has the program's code too).
- FLOPs are counted before compilation, recomputation and micro-batches included, a
  multiply-add as two; over the chip's peak they are the compute floor.
- The memory floor is the traffic of *this* program (what each fused operation reads
  and writes, loops multiplied out) over the chip's bandwidth. A full compilation
  fuses further, so that a real step may move less: read it as an estimate. With loops
  counted once, as XLA does, UCF101 on v4 comes to 161 GB a step; XLA's own figure is
  188 GB.
- Neither floor predicts a step time.
- Collectives: how many a step, and the bytes that go in or come out of them on a
  chip. With `fsdp` weights are gathered once a step, in bfloat16, and gradients are
  reduced once a micro-batch.
- Compiled with little effort (`O0`), as nothing runs it. What that does to memory was
  measured once, on six residual blocks: temporaries of 4.15 GB instead of 4.11.
  Compile seconds are of that effort on a busy two-core machine.

To make it again: one run for each row, then this page.

    vdm-jax preflight --config=configs/NAME.py --json > NAME.json
    vdm-jax preflight --config=configs/NAME.py:chips=8 --json > NAME-8.json
    python -m vdm_jax.preflight.table *.json > docs/results/preflight.md
"""
_COLUMNS = (
  "config",
  "slice",
  "parameters, M",
  "batch",
  "data x fsdp",
  "remat",
  "micro-batches",
  "arguments, GiB",
  "temporaries, GiB",
  "total of usable, GiB",
  "fits",
  "TFLOP a step",
  "compute floor, ms",
  "memory floor, ms",
  "collectives a step",
  "compile, s",
)


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
  """Formats the page of results by row name."""
  versions = sorted(
    {
      ", ".join(f"{k} {v}" for k, v in found["versions"].items())
      for found in results.values()
      if "versions" in found
    }
  )
  dates = sorted({found["date"] for found in results.values() if "date" in found})
  lines = [_HEAD.format(date=", ".join(dates), versions="; ".join(versions))]
  lines += [_row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
  lines += [_row(_cells(name, found)) for name, found in results.items()]
  return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _cells(name, found) -> list[str]:
  if "hbm" not in found:
    return [name, str(found["topology"]), *["?"] * (len(_COLUMNS) - 2)]
  hbm, floor, mesh = found["hbm"], found["floor_ms"], found["mesh"]
  total = f"{_number(hbm['total'], GIB)} of {_number(hbm['capacity'], GIB)}"
  return [
    f"`{name}`",
    found["topology"] or "local",
    f"{found['parameters'] / 1e6:,.1f}",
    str(found["batch_size"]),
    f"{mesh['data']} x {mesh['fsdp']}",
    found["remat"],
    str(found["accumulate"]),
    _number(hbm["arguments"], GIB),
    _number(hbm["temporaries"], GIB),
    total,
    {True: "yes", False: "**no**", None: "?"}[found["fits"]],
    _number(found["flops"], 1e12, 1),
    _number(floor["compute"], 1, 0),
    _number(floor["memory"], 1, 0),
    summary.collectives(found["collectives"]) if found["collectives"] else "?",
    _number(found["seconds"]["compile"], 1, 0),
  ]


def _number(value, unit, digits: int = 2) -> str:
  return "?" if value is None else f"{value / unit:,.{digits}f}"


def main(paths: Sequence[str]) -> None:
  """Prints the page."""
  files = [pathlib.Path(path) for path in paths]
  results = {file.stem: json.loads(file.read_text()) for file in files}
  print(page(results), end="")


if __name__ == "__main__":
  main(sys.argv[1:])
