"""Times a training step, the forward pass, a sampler step and the input pipeline.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --sizes tiny small --hugepages \
        --against=video-diffusion-pytorch --json=result.json

Without arguments that is every system twice: the network of its demo, and the paper's
at 64x64 in a size that a CPU trains.

The parts, each of a whole batch in float32:

- `step`: forward, backward, optimizer (and, ours, gradient clipping and averages).
- `forward`: the loss without gradients.
- `sample`: one step of the ancestral sampler; of RVD, for one frame after a given one.
- `input`: a batch from a built data set, ready in host memory.

With `--against`, lucidrains' package is installed in a virtual environment of its
own (`--env`) and measured after ours, each side alone, since a PyTorch process that
only waits slows the other: same frames, pixels, batch, base width and multipliers. The
networks still differ (theirs has attention everywhere, linear over space), so the
number to read is the ratio of times per GFLOP; below 1 ours is faster. GFLOP are those
of products and convolutions, a multiply-add as two, on both sides. `cpu s` is processor
time: it suffers less from other jobs than `ms`. PyTorch runs in both memory formats and
is judged by its better one.

On CPU every core is a device and has its share of the batch.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time

import jax

from benchmarks import programs, sizes, table, torch_side
from vdm_jax import systems
from vdm_jax.data import pipeline
from vdm_jax.data import source as sources


def input_pipeline(config, seconds: float = 3.0, videos: int = 400) -> dict:
  """Measures videos per second of the input pipeline alone, on moving digits."""
  system = systems.build(config)
  pixels, _, channels = config["data"]["frame_shape"]
  length = max(system.task.min_length, system.task.num_frames)
  name = f"moving_digits/{pixels}px_1digit_{length}frames_{videos}videos"
  name += "_rgb" * (channels == 3)
  batch_size = config["train"]["batch_size"]
  with tempfile.TemporaryDirectory() as folder:
    sources.ensure_built(name, folder)
    source = sources.load(name, folder, "train")
    batches = pipeline.make_pipeline(
      source,
      system.task,
      batch_size=batch_size,
      seed=0,
      num_threads=2,
      prefetch_bytes=1,  # One batch ahead: a full buffer would be counted as speed.
    )
    for _ in range(20):
      next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
      next(batches)
      count += 1
    rate = count * batch_size / (time.perf_counter() - start)
    batches.close()
  return {"videos_per_second": rate, "seconds_per_batch": batch_size / rate}


def run(config, devices, parts, turns: int) -> dict:
  """Measures ours: {"vdm_jax": {parameters, flop, seconds, processor_seconds}}."""
  ours = programs.Ours(config, devices)
  flop = {part: ours.flop(part) for part in programs.PARTS}
  ours.start()
  facts = {"parameters": ours.parameters, "flop": flop}
  return {table.OURS: {**facts, **_times(ours.measure, parts, turns)}}


def run_torch(size: sizes.Size, python: str, parts, turns: int) -> dict:
  """Measures PyTorch, a memory format after the other: the same, by format."""
  worker = torch_side.Worker(python)
  try:
    threads = len(os.sched_getaffinity(0))
    built = worker.ask(do="build", size=dataclasses.asdict(size), threads=threads)
    facts = {key: built[key] for key in ("parameters", "flop")}
    return {
      f"torch {layout}": {
        **facts,
        **_times(
          lambda part, layout=layout: worker.ask(
            do="measure", layout=layout, part=part
          ),
          parts,
          turns,
        ),
      }
      for layout in torch_side.LAYOUTS
    }
  finally:
    worker.close()


def _times(call, parts, turns: int) -> dict:
  """Measures seconds, wall and processor, of every turn of every part."""
  found = {"seconds": {}, "processor_seconds": {}}
  for part in parts:
    # The first call compiles and allocates.
    times = [call(part) for _ in range(turns + 1)][1:]
    wall, processor = zip(*times, strict=True)
    found["seconds"][part], found["processor_seconds"][part] = wall, processor
  return found


def share(devices, batch: int):
  """Returns as many devices as the batch can be split over."""
  return devices[: max(n for n in range(1, len(devices) + 1) if batch % n == 0)]


def main(argv=None):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "--sizes", nargs="+", choices=sizes.names(), default=list(sizes.SYSTEMS)
  )
  parser.add_argument(
    "--parts",
    nargs="+",
    choices=(*programs.PARTS, "input"),
    default=("step", "forward"),
  )
  parser.add_argument("--turns", type=int, default=11)
  parser.add_argument(
    "--against", choices=(torch_side.REFERENCE,), help="package to compare with"
  )
  parser.add_argument(
    "--env",
    type=pathlib.Path,
    default=torch_side.cache_folder(),
    help="environment of --against",
  )
  parser.add_argument("--platform", default="cpu", help="of ours; 'cpu', 'cuda', 'tpu'")
  parser.add_argument("--devices", type=int, help="virtual CPU devices; default: cores")
  parser.add_argument(
    "--hugepages",
    action="store_true",
    help=f"start again, both sides, with GLIBC_TUNABLES={table.HUGEPAGES}",
  )
  parser.add_argument("--json", type=pathlib.Path, help="file for all measurements")
  args = parser.parse_args(argv)
  other = [name for name in args.sizes if name not in sizes.SIZES]
  if args.against and other:
    parser.error(f"--against has no networks for {', '.join(other)}; see --sizes")
  found = table.machine()
  if args.hugepages and not found["hugepages"]:
    # glibc reads its tunables once, as a process starts.
    os.environ["GLIBC_TUNABLES"] = table.HUGEPAGES
    command = [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:]]
    os.execv(sys.executable, command)
  jax.config.update("jax_platforms", args.platform)
  if args.platform == "cpu":
    jax.config.update("jax_num_cpu_devices", args.devices or found["cores"])

  python = torch_side.environment(args.env) if args.against else None
  timed = [part for part in args.parts if part != "input"]
  report = {"machine": found, "load_before": os.getloadavg()[0], "sizes": {}}
  lines = []
  for name in args.sizes:
    config = sizes.config(name)
    devices = share(jax.devices(), config["train"]["batch_size"])
    entry = {"config": config, "devices": len(devices)}
    if timed:
      sides = run(config, devices, timed, args.turns)
      if python:
        sides |= run_torch(sizes.SIZES[name], python, timed, args.turns)
      entry.update(sides=sides, ratios=table.ratios(sides, timed))
      lines += table.rows(name, sides, timed)
    if "input" in args.parts:
      entry["input"] = input_pipeline(config)
    report["sizes"][name] = entry
  report["load_after"] = os.getloadavg()[0]

  versions = ", ".join(f"{key} {value}" for key, value in found.items())
  print(f"{versions}; load {report['load_before']:.1f} to {report['load_after']:.1f}\n")
  if lines:
    table.show(lines)
  for name, entry in report["sizes"].items():
    for part, r in entry.get("ratios", {}).items():
      low, high = r["time_per_flop_quartiles"]
      print(
        f"{name} {part}: ours / {r['against']}: time {r['time']:.2f}, per GFLOP "
        f"{r['time_per_flop']:.2f} (quartiles of turns {low:.2f} to {high:.2f}), "
        f"processor time per GFLOP {r['processor_time_per_flop']:.2f}"
      )
    if "input" in entry:
      rate = entry["input"]["videos_per_second"]
      print(f"{name} input: {rate:.0f} videos/s")
  if args.json:
    args.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
  main()
