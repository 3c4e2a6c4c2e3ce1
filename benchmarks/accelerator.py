"""Times the four systems at their papers' shapes on the GPU or TPU of this host.

    python -m benchmarks.accelerator --json=result.json
    python -m benchmarks.accelerator --against=torch --profile=DIR --json=result.json
    python -m benchmarks.accelerator --smoke

First what the devices can do: a product of matrices in bfloat16 and a copy (those of
`vdm-jax doctor`). Then of each system, in bfloat16 on float32 parameters, the parts:

- `step`: forward, backward, gradient clipping, optimizer, averages.
- `forward`: the loss without gradients.
- `sample`: one step of the ancestral sampler; of RVD, for one frame after a given one.

TFLOP are those of the products and convolutions that the model needs, a multiply-add
as two: what a program computes again (`model.remat`, attention in chunks) is not
counted, so that `share`, of the measured rate of products, is what is called model
FLOPs utilisation. `compile s` is of each program after its lowering; `forward` and
`sample` compile beside each other, when `step` was measured. `GiB` is arguments and
temporaries by the compiler, a device; the notes have the peak. Times are medians of
groups of calls that are waited for once, as training does.

Each system runs in a process of its own. One that runs out of memory runs again with
half of the batch, and the notes say so; another failure is a line of the table. When
`--seconds` are used up nothing new is begun, what runs is stopped, and the notes say
what was left out. Steps come first: other parts are left out where later systems would
have no time for theirs.

With `--against=torch`, a network of the same frames, pixels, batch, base width and
multipliers is measured on both sides, each alone: ours, and lucidrains' package
video-diffusion-pytorch in bfloat16 autocast by torch.compile, with Adam, in both memory
formats. It must be installed here, or in the environment `--env`. The networks still
differ (theirs has attention everywhere, linear over space), so the number to read is
the ratio of times per TFLOP.

With `--profile=DIR`, two steps of each row (or of `--profile_rows`) are traced into DIR,
and the 15 most costly kernels go to stdout and the JSON, which is all one needs.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from benchmarks import accelerator_row, programs, sizes, table, torch_side

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHARED = "shared"
ROWS = ("vdm", SHARED, "fdm", "ramvid", "rvd")
# Of a later system's first part, kept free while an earlier one has parts to go.
RESERVE = 45.0
# Nothing is begun that has less.
LEAST = 15.0


class Clock:
  """How much time is left."""

  def __init__(self, seconds: float):
    self.end = time.time() + seconds

  def left(self) -> float:
    return self.end - time.time()


def child(spec: dict, clock: Clock, environment: dict) -> dict:
  """Runs `accelerator_row` on a specification, until the time is up.

  Returns:
    What it emitted, `parts` by name; `error` for a process that failed, with `log`, the
    end of its stderr.
  """
  found = {"parts": {}, "left_out": []}
  command = [sys.executable, "-m", "benchmarks.accelerator_row", json.dumps(spec)]
  with tempfile.TemporaryFile("w+") as log:
    process = subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment
    )
    timer = threading.Timer(max(1.0, clock.left()), process.kill)
    timer.start()
    try:
      for line in process.stdout:
        if line.startswith(accelerator_row.MARK):
          _take(found, json.loads(line[len(accelerator_row.MARK) :]))
      process.wait()
    finally:
      timer.cancel()
      process.kill()  # Where this was interrupted; else it is over.
      process.wait()
    if process.returncode or "error" in found:
      log.seek(0)
      found["log"] = log.read()[-4000:]
  if process.returncode and clock.left() <= 0:
    found["stopped"] = True
  elif process.returncode:
    lines = found["log"].strip().splitlines() or ["no message"]
    found.setdefault("error", f"exit status {process.returncode}: {lines[-1][:300]}")
  return found


def _take(found: dict, said: dict) -> None:
  """Adds a line of a row's process to what is known of the row."""
  if "part" in said:
    found["parts"][said.pop("part")] = said
  elif "left_out" in said:
    found["left_out"] += said["left_out"]
  else:
    found.update(said)


def with_smaller_batches(run, batch: int, clock: Clock) -> dict:
  """Runs a row, with half of the batch as long as memory is not enough.

  Args:
    run: batch of a device -> what was found, with `out_of_memory` where it was not.
    batch: to begin with.
    clock: no other is begun when it is over.

  Returns:
    What the last one found, with `notes` and `batch_per_device`; `error` where not even
    one video fits.
  """
  notes = []
  while True:
    found = run(batch)
    found.update(batch_per_device=batch, notes=notes)
    reason = found.get("out_of_memory")
    if reason is None:
      return found
    if batch == 1:
      found["error"] = f"a batch of 1 a device is too much: {reason}"
      return found
    notes.append(f"batch {batch} a device does not fit, {batch // 2} is tried")
    batch //= 2
    if clock.left() < LEAST:
      found["stopped"] = True
      return found


def run_torch(size: sizes.Size, python: str, cuda: bool, parts, clock, seconds) -> dict:
  """Measures PyTorch, a memory format after the other: a row's `found` by side."""
  worker = torch_side.Worker(python)
  timer = threading.Timer(max(1.0, clock.left()), worker.kill)
  timer.start()
  sides = {}
  try:
    built = worker.ask(
      do="build",
      size=dataclasses.asdict(size),
      threads=len(os.sched_getaffinity(0)),
      device="cuda" if cuda else "cpu",
      autocast=True,
      compile=True,
    )
    for part in parts:  # The first of both formats before the others.
      for layout in torch_side.LAYOUTS:
        side = sides.setdefault(
          f"torch {layout}",
          {"parts": {}, "left_out": [], "notes": [], "batch": size.batch}
          | {"parameters": built["parameters"]},
        )
        if clock.left() < LEAST:
          side["left_out"].append(part)
          continue
        side["parts"][part] = {
          "flop": built["flop"][part],
          **_torch_part(worker, layout, part, seconds),
        }
    about = worker.ask(do="version")
    for side in sides.values():
      side.update(memory_peak=about["memory_peak"], versions=about)
  except RuntimeError as error:
    kind = "out_of_memory" if accelerator_row.out_of_memory(str(error)) else "error"
    stopped = clock.left() <= 0
    for side in sides.values() if sides else [sides.setdefault("torch", _empty())]:
      side.update({"stopped": True} if stopped else {kind: str(error)})
  finally:
    timer.cancel()
    worker.close()
  return sides


def _empty(**found) -> dict:
  """Of a side of which nothing is known."""
  return {"parts": {}, "left_out": [], "notes": [], **found}


def _torch_part(worker, layout, part, seconds) -> dict:
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


def lines(name: str, side: str, found: dict, rate: float | None):
  """The lines of the table of a row's side.

  Args:
    name: of the row.
    side: whose.
    found: of the row.
    rate: measured, FLOP/s, of all devices.
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
  """What the table has no room for, a line each."""
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
  """Ours over PyTorch's better format, see `table.ratios`, of what all have."""
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


def main(argv=None):
  args = _arguments(argv)
  started = time.time()
  clock = Clock(args.seconds)
  environment = dict(os.environ)
  # More than the default three quarters; what is left is for the driver's own.
  environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  if args.smoke:
    environment["JAX_PLATFORMS"] = "cpu"
  seconds = 0.05 if args.smoke else 1.5
  report = {"machine": table.machine(), "smoke": args.smoke, "rows": {}}
  first = child({"what": "rates"}, clock, environment)
  report.update({k: first[k] for k in ("devices", "rates", "error") if k in first})
  devices, rates = first.get("devices"), first.get("rates")
  if devices is None:
    sys.exit(f"no device: {first.get('error', 'the time was up')}")
  print(f"{devices['count']} x {devices['kind']}; {_versions(report['machine'])}")
  if rates:
    print(
      f"measured: {rates['matmul_tflops']:.4g} TFLOP/s of products in {rates['dtype']}, "
      f"{rates['copy_gbs']:.4g} GB/s of copies, all devices together"
    )
  names = [name for name in args.rows if name != SHARED or args.against]
  for index, name in enumerate(names):
    after = len(names) - index - 1
    report["rows"][name] = row = {"sides": {}}
    if clock.left() < LEAST:
      row["sides"][table.OURS] = _empty(left_out=list(args.parts))
      continue
    config = sizes.paper(name, args.smoke)
    profiled = args.profile and name in (args.profile_rows or names)
    spec = {
      "what": "ours",
      "parts": args.parts,
      "until": clock.end - RESERVE * after * (not args.smoke),
      "seconds": seconds,
      "profile": str(args.profile.resolve() / name) if profiled else None,
    }

    def ours(batch, config=config, spec=spec):
      config["train"]["batch_size"] = batch
      return child({**spec, "config": config}, clock, environment)

    batch = args.batch.get(name, config["train"]["batch_size"])
    row["config"] = config
    row["sides"][table.OURS] = found = with_smaller_batches(ours, batch, clock)
    if name == SHARED and args.against:
      size = dataclasses.replace(sizes.shared(args.smoke), batch=batch)
      theirs = _theirs(size, args, devices, clock, seconds)
      row["sides"].update(theirs)
      row["ratios"] = ratios(row["sides"])
    print(f"... {name}: {time.time() - started:.0f} s", file=sys.stderr)
    _keep(args.json, report, started)
  rate = rates["matmul_tflops"] * 1e12 if rates else None
  _show(report, rate)
  _keep(args.json, report, started)


def _theirs(size, args, devices, clock, seconds) -> dict:
  """PyTorch's sides of the shared row."""
  python = torch_side.installed(args.env)
  if python is None:
    missing = f"{torch_side.REFERENCE} is not installed here; see --env"
    return {"torch": _empty(error=missing)}
  cuda = devices["platform"] == "gpu" and not args.smoke
  notes = []
  while True:
    sides = run_torch(size, python, cuda, args.parts, clock, seconds)
    for found in sides.values():
      found["notes"] = notes
    full = any("out_of_memory" in found for found in sides.values())
    if not full or size.batch == 1 or clock.left() < LEAST:
      return sides
    notes.append(f"batch {size.batch} does not fit, {size.batch // 2} is tried")
    size = dataclasses.replace(size, batch=size.batch // 2)


def _show(report, rate) -> None:
  """Prints the table, the notes, the ratios and the profiles."""
  sides = [
    (name, side, found)
    for name, row in report["rows"].items()
    for side, found in row["sides"].items()
  ]
  cells = [line for one in sides for line in lines(*one, rate)]
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


def _versions(machine) -> str:
  return ", ".join(f"{key} {machine[key]}" for key in ("python", "jax", "jaxlib"))


def _keep(path: pathlib.Path | None, report, started: float) -> None:
  """Writes what is known so far, whole or not at all."""
  report["seconds"] = time.time() - started
  if path is None:
    return
  part = path.with_name(path.name + ".part")
  part.write_text(json.dumps(report, indent=2))
  part.replace(path)


def _arguments(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
  parser.add_argument(
    "--parts", nargs="+", choices=programs.PARTS, default=list(programs.PARTS)
  )
  parser.add_argument(
    "--batch",
    nargs="+",
    default=[],
    metavar="ROW=VIDEOS",
    help="videos a device, to begin with; default: for 80 GB",
  )
  parser.add_argument(
    "--seconds",
    type=float,
    help="of everything; default 240, with --against 480",
  )
  parser.add_argument("--against", choices=("torch",))
  parser.add_argument(
    "--env",
    type=pathlib.Path,
    help="environment of --against; default: this one, or that of train_step",
  )
  parser.add_argument("--profile", type=pathlib.Path, help="folder for traces")
  parser.add_argument("--profile_rows", nargs="+", choices=ROWS, help="default: all")
  parser.add_argument("--json", type=pathlib.Path, help="file for all measurements")
  parser.add_argument(
    "--smoke", action="store_true", help="tiny networks on a CPU: does it run?"
  )
  args = parser.parse_args(argv)
  args.batch = dict(_batch(parser, text) for text in args.batch)
  args.seconds = args.seconds or (480 if args.against else 240)
  return args


def _batch(parser, text: str) -> tuple[str, int]:
  name, _, number = text.partition("=")
  if name not in ROWS or not number.isdigit() or int(number) < 1:
    parser.error(f"--batch: expected ROW=VIDEOS of {', '.join(ROWS)}, found {text!r}")
  return name, int(number)


if __name__ == "__main__":
  main()
