"""Formats preflights of many configs as a page of Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

from vdm_jax.preflight import summary
from vdm_jax.preflight.chips import GIB

_HEAD = """# Preflight: does every paper's model fit?

The real sharded training step of every paper's config, compiled by the TPU compiler for
the slice named, on a machine without a TPU. Nothing here was run on one.

    python -m benchmarks.preflight --out=docs/results/preflight

compiles the rows that are missing and writes this page again; all numbers are in
`docs/results/preflight/`.

- A row `NAME` is `--config=NAME` on that config's slice (VDM's: the paper's number of
  chips); `NAME-8`, of VDM alone, is `--config=NAME:chips=8`, the same training with
  settings that fit eight small chips; `NAME-8-halved` the same in twice as many
  micro-batches. `NAME-8-sample` is a sampler step of 16 videos of that model on each
  of the slice's two hosts, `NAME-8-enlarge` one that a smaller video guides, which
  sampling repeats for every step and window.
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
  Compile seconds are of that effort on a two-core machine, two rows at a time and
  tests beside.
- **Before**: total memory, memory floor and collectives of rows of 2026-11-22 to 27,
  when the compiler sent weights round the chips piece by piece while it multiplied.
  Those floors leave the optimizer's update out (one read and write of the state a
  step). On v4 today's steps hold up to 2 GiB more: likely what attention over space
  keeps for its kernel, 128 lanes wide for heads of 64. Rows of `vdm_bair-8`,
  `vdm_text_small-8` and `vdm_text_128-8` count unrolled loops twice.
"""
_GOALS = """
## Three large models on eight small chips

The goal was a third of the collectives and 60 % of the traffic in less memory, in as
many micro-batches as before; then fewer of them, where that fits. "Before" is read as
today (but floors leave the update out): `vdm_ucf101-8` of 2026-11-22, the other two of
commit 869593f, the last before weights were gathered once a step.
"""
_GPUS = """
## GPUs

    python -m benchmarks.preflight --topology=h100:8 --out=docs/results/preflight

after `make venv EXTRAS=test,cuda-preflight` and
`pip install --no-deps nvidia-cudnn-cu12`; on a machine without a GPU, with effort `O0`
and nothing tuned (`--xla_gpu_autotune_level=0`). Nothing here was run on a card.

- Rows of VDM's paper are of `--config=NAME:chips=8`.
- Memory is a lower bound: workspaces of cuDNN's convolutions read as empty, since they
  are chosen on a card. Usable is what JAX takes of a card by default, 75 %.
- Attention over space in bfloat16 is cuDNN's kernel where that takes the heads.
- Memory floors count kernels' operands and results, not cuBLAS's workspaces (32 MiB
  each in the program, hardly touched).
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
  "before",
  "compile, s",
  "made",
)


def page(
  tpus: Mapping[str, Mapping[str, Any]],
  gpus: Mapping[str, Mapping[str, Any]],
  before: Mapping[str, Mapping[str, float]],
) -> str:
  """Formats the page.

  Args:
    tpus: results of `vdm_jax.preflight.preflight` for TPUs, by row.
    gpus: those for GPUs.
    before: earlier `total_gib`, `memory_floor_ms` and `collectives_gib` of rows.
  """
  parts = [_HEAD, _table(tpus, before)]
  if goals := _goals(tpus, before):
    parts += [_GOALS, goals]
  if gpus:
    parts += [_GPUS, _table(gpus, {})]
  return "\n".join(parts) + "\n"


def _goals(results, before) -> str:
  """Tabulates the rows that were measured in as many micro-batches as before."""
  lines = []
  for name in results:
    row = name.removesuffix("-halved")
    if row == name or row not in results or row not in before:
      continue
    for found in (results[name], results[row]):
      cells = [f"`{row}`", str(found["accumulate"])]
      for key, digits, now in (
        ("total_gib", 2, found["hbm"]["total"] / GIB),
        ("memory_floor_ms", 0, found["floor_ms"]["memory"]),
        ("collectives_gib", 1, _bytes(found["collectives"]) / GIB),
      ):
        was = before[row][key]
        ratio = f"{100 * now / was:.0f} %"
        cells.append(f"{was:,.{digits}f} to {now:,.{digits}f} ({ratio})")
      lines.append(_row(cells))
  head = [
    "config",
    "micro-batches",
    "total, GiB",
    "memory floor, ms",
    "collectives, GiB",
  ]
  return "\n".join([_row(head), _row(["---"] * len(head)), *lines]) if lines else ""


def _bytes(collectives) -> float:
  return sum(kind["bytes"] for kind in collectives.values())


def _table(results, before) -> str:
  versions = sorted({_versions(found) for found in results.values()})
  columns = [name for name in _COLUMNS if before or name != "before"]
  lines = [f"Compiled with {'; '.join(versions)}.", ""]
  lines += [_row(columns), _row(["---"] * len(columns))]
  for name, found in results.items():
    cells = dict(zip(_COLUMNS, _cells(name, found, before.get(name)), strict=True))
    lines.append(_row(cells[column] for column in columns))
  return "\n".join(lines)


def _versions(found) -> str:
  return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def _row(cells: Iterable[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _cells(name, found, before) -> list[str]:
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
    _earlier(before) if before else "",
    _number(found["seconds"]["compile"], 1, 0),
    found["date"],
  ]


def _earlier(before) -> str:
  return (
    f"{before['total_gib']:.2f} GiB, {before['memory_floor_ms']:,.0f} ms, "
    f"{before['collectives_gib']:.3g} GiB"
  )


def _number(value, unit, digits: int = 2) -> str:
  return "?" if value is None else f"{value / unit:,.{digits}f}"
