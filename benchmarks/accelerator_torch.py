"""PyTorch's side of `benchmarks/accelerator.py`: both memory formats, compiled."""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Sequence

from benchmarks import accelerator_process as row
from benchmarks import accelerator_row, sizes, torch_side


def measure(
  size: sizes.Size,
  folder: pathlib.Path | None,
  device: str,
  parts: Sequence[str],
  clock: row.Clock,
  seconds: float,
) -> dict[str, dict]:
  """Measures a network, with half of the batch as long as memory is not enough.

  Args:
    size: of the network and the batch.
    folder: environment with the package, see `torch_side.installed`.
    device: 'cuda' or 'cpu'.
    parts: of `programs.PARTS`.
    clock: when it is over, what runs is stopped.
    seconds: of each measurement.

  Returns:
    By memory format what `row.child` returns; 'torch' alone with an `error` where
    the package is not installed.
  """
  python = torch_side.installed(folder)
  if python is None:
    missing = f"{torch_side.REFERENCE} is not installed here; see --env"
    return {"torch": row.empty(error=missing)}
  notes = []
  while True:
    sides = _run(size, python, device, parts, clock, seconds)
    for found in sides.values():
      found["notes"] = notes
    full = any("out_of_memory" in found for found in sides.values())
    if not full or size.batch == 1 or clock.left() < row.LEAST:
      return sides
    notes.append(f"batch {size.batch} does not fit, {size.batch // 2} is tried")
    size = dataclasses.replace(size, batch=size.batch // 2)


def _run(size, python, device, parts, clock, seconds) -> dict:
  """Measures a batch, every part in both memory formats."""
  worker = torch_side.Worker(python)
  timer = threading.Timer(max(1.0, clock.left()), worker.kill)
  timer.start()
  sides = {}
  try:
    built = worker.ask(
      do="build",
      size=dataclasses.asdict(size),
      threads=len(os.sched_getaffinity(0)),
      device=device,
      autocast=True,
      # On CPU the question is whether it runs, and C++ takes minutes to compile.
      compile="inductor" if device == "cuda" else "aot_eager",
    )
    for part in parts:  # The first of both formats before the others.
      for layout in torch_side.LAYOUTS:
        side = sides.setdefault(
          f"torch {layout}",
          {"parts": {}, "left_out": [], "notes": [], "batch": size.batch}
          | {"parameters": built["parameters"]},
        )
        if clock.left() < row.LEAST:
          side["left_out"].append(part)
          continue
        side["parts"][part] = {
          "flop": built["flop"][part],
          **_part(worker, layout, part, seconds),
        }
    about = worker.ask(do="version")
    for side in sides.values():
      side.update(memory_peak=about["memory_peak"], versions=about)
  except RuntimeError as error:
    kind = "out_of_memory" if accelerator_row.out_of_memory(str(error)) else "error"
    stopped = clock.left() <= 0
    for side in sides.values() if sides else [sides.setdefault("torch", row.empty())]:
      side.update({"stopped": True} if stopped else {kind: str(error)})
  finally:
    timer.cancel()
    worker.close()
  return sides


def _part(worker, layout, part, seconds) -> dict:
  """Times a part as `accelerator_row.in_groups` does."""

  def ask(calls=1):
    return worker.ask(do="measure", layout=layout, part=part, calls=calls)

  first, one = ask()[0], ask()[0]
  groups = accelerator_row.GROUPS
  calls = max(1, round(seconds / groups / max(one, 1e-6)))
  times = [ask(calls) for _ in range(groups)]
  wall, processor = zip(*times, strict=True)
  return {
    "seconds": wall,
    "processor_seconds": processor,
    "calls": calls,
    "compile_seconds": first - one,
  }
