"""Times the four systems at their papers' shapes on the GPU or TPU of this host.

    python -m benchmarks.accelerator --json=result.json
    python -m benchmarks.accelerator --against=torch --profile=DIR --json=result.json
    python -m benchmarks.accelerator --smoke

It first measures the devices: a matrix product in bfloat16 and a copy (those of
`vdm-jax doctor`). Then it measures the parts of each system, in bfloat16 on float32
parameters:

- `step`: forward, backward, gradient clipping, optimizer, averages.
- `forward`: the loss without gradients.
- `sample`: one step of the ancestral sampler; for RVD, of one frame after a given one.

TFLOP are those of the products and convolutions that the model needs, a multiply-add as
two: recomputation (`model.remat`, attention in chunks) does not count, so that `share`,
of the measured rate of products, is the model FLOPs utilisation. `compile s` is the
time to compile each program after its lowering; `forward` and `sample` compile at the
same time, after `step` was measured. `GiB` is arguments and temporaries per device, by
the compiler; the notes have the peak. Times are medians of groups of calls that are
waited for once, as in training.

Each system runs in a separate process. One that runs out of memory runs again with half
of the batch, and the notes say so; another failure is a line of the table. When
`--seconds` are used up, what runs is stopped, and the notes list what was left out.
Steps come first: other parts are left out if later systems would have no time for
theirs.

With `--against=torch`, a network of the same frames, pixels, batch, base width and
multipliers is measured on both sides, each alone and on one device: ours, and
lucidrains' package video-diffusion-pytorch in bfloat16 autocast by torch.compile, with
Adam, in both memory formats and without its attention mask, which is never used here
and would cut the compiled graph. It must be installed here, or in the environment
`--env`. The networks still differ (theirs has attention everywhere, linear over space),
so the number to read is the ratio of times per TFLOP.

With `--profile=DIR`, two steps of each row (or of `--profile_rows`) are traced into
DIR; the 15 most costly kernels go to stdout and the JSON, which is all one needs.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time

from benchmarks import accelerator_process as process
from benchmarks import accelerator_table, accelerator_torch, programs, sizes, table

SHARED = "shared"
ROWS = ("vdm", "fdm", "ramvid", "rvd", SHARED)
# Seconds kept for the first part of each later row while an earlier one has parts to
# go; and for PyTorch's.
RESERVE, RESERVE_TORCH = 45.0, 90.0


def main(argv=None):
  args = _arguments(argv)
  started = time.time()
  clock = process.Clock(args.seconds)
  environment = dict(os.environ)
  # More than the default three quarters; what is left is for the driver's own.
  environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  if args.smoke:
    environment["JAX_PLATFORMS"] = "cpu"
    # Most of the time is compilation.
    fast = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {fast}"
  seconds = 0.05 if args.smoke else 1.5
  report = {"machine": table.machine(), "smoke": args.smoke, "rows": {}}
  first = process.child({"what": "rates"}, clock, environment)
  report.update({k: first[k] for k in ("devices", "rates", "error") if k in first})
  devices, rates = first.get("devices"), first.get("rates")
  if devices is None:
    sys.exit(f"no device: {first.get('error', 'the time was up')}")
  print(f"{devices['count']} x {devices['kind']}; {_versions(report['machine'])}")
  if rates:
    print(
      f"measured: {rates['matmul_tflops']:.4g} TFLOP/s of products in "
      f"{rates['dtype']}, {rates['copy_gbs']:.4g} GB/s of copies, all devices together"
    )
  names = [name for name in args.rows if name != SHARED or args.against]
  for index, name in enumerate(names):
    reserve = RESERVE * (len(names) - index - 1)
    reserve += RESERVE_TORCH * (SHARED in names)
    report["rows"][name] = row = {"sides": {}}
    if clock.left() < process.LEAST:
      row["sides"][table.OURS] = process.empty(left_out=list(args.parts))
      continue
    config = sizes.paper(name, args.smoke)
    profiled = args.profile and name in (args.profile_rows or names)
    spec = {
      "what": "ours",
      "parts": args.parts,
      "one": name == SHARED,  # As PyTorch's side.
      "until": clock.end - (0 if args.smoke else reserve),
      "seconds": seconds,
      "profile": str(args.profile.resolve() / name) if profiled else None,
    }

    def ours(batch, config=config, spec=spec):
      config["train"]["batch_size"] = batch
      return process.child({**spec, "config": config}, clock, environment)

    batch = args.batch.get(name, config["train"]["batch_size"])
    row["config"] = config
    row["sides"][table.OURS] = process.with_smaller_batches(ours, batch, clock)
    if name == SHARED and args.against:
      size = dataclasses.replace(sizes.shared(args.smoke), batch=batch)
      cuda = devices["platform"] == "gpu"
      row["sides"] |= accelerator_torch.measure(
        size, args.env, "cuda" if cuda else "cpu", args.parts, clock, seconds
      )
      row["ratios"] = accelerator_table.ratios(row["sides"])
    print(f"... {name}: {time.time() - started:.0f} s", file=sys.stderr)
    _keep(args.json, report, started)
  rate = rates["matmul_tflops"] * 1e12 if rates else 0.0
  one = {SHARED: rate / devices["count"]}
  accelerator_table.show(report, {name: one.get(name, rate) for name in names})
  _keep(args.json, report, started)
  sides = [side for row in report["rows"].values() for side in row["sides"].values()]
  if args.smoke and any("error" in side for side in sides):
    sys.exit(1)


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
    help="of everything; default 240, with --against 480, with --smoke 600",
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
  default = 600 if args.smoke else 480 if args.against else 240
  args.seconds = args.seconds or default
  return args


def _batch(parser, text: str) -> tuple[str, int]:
  name, _, number = text.partition("=")
  if name not in ROWS or not number.isdigit() or int(number) < 1:
    parser.error(f"--batch: expected ROW=VIDEOS of {', '.join(ROWS)}, found {text!r}")
  return name, int(number)


if __name__ == "__main__":
  main()
