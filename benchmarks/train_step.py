"""Times a training step, the forward pass, a sampler step and the input pipeline.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --sizes tiny small --hugepages \
        --against=video-diffusion-pytorch --json=result.json

The parts, each of a whole batch in float32:

- `step`: forward, backward, optimizer (and, ours, gradient clipping and averages).
- `forward`: the loss without gradients.
- `sample`: one step of the ancestral sampler.
- `input`: a batch from a built data set, ready in host memory.

With `--against`, lucidrains' package is installed in a virtual environment of its
own (`--env`) and takes turns with ours: same frames, pixels, batch, base width and
multipliers. The networks still differ (theirs has attention everywhere, linear
over space), so the number to read is the ratio of times per GFLOP; below 1 ours is
faster. GFLOP are those of products and convolutions, a multiply-add as two, on
both sides. `cpu s` is processor time: it suffers less from other jobs than `ms`.
PyTorch runs in both memory formats and is judged by its better one.

On CPU every core is a device and has its share of the batch.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import platform
import runpy
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from vdm_jax import sharding, systems
from vdm_jax.data import pipeline
from vdm_jax.data import source as sources
from vdm_jax.frames import Frames
from vdm_jax.preflight import flops
from vdm_jax.sampling import window
from vdm_jax.sampling.settings import Settings
from vdm_jax.training import program

PARTS = ("step", "forward", "sample")
SAMPLER_STEPS = 4  # In one call; times are of one.
TORCH = "torch==2.13.0+cpu"  # Only CPU builds are called so.
PACKAGES = (
  "video-diffusion-pytorch==0.7.0 rotary-embedding-torch==0.9.1 einops==0.8.1 "
  "einops-exts==0.0.4"
).split()
SMALL_PACKAGES = "tqdm pillow numpy".split()
REFERENCE = "video-diffusion-pytorch"
LAYOUTS = ("plain", "channels_last")
_HUGEPAGES = "glibc.malloc.hugetlb=1"


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and a batch.

  Attributes:
    frames, pixels, channels: of a video; frames are square.
    batch: videos.
    width: base width of the network.
    mults: width of each level, in base widths.
    blocks: of ours: residual blocks a level (theirs always has two).
    attention: of ours: heights in pixels with attention.
  """

  frames: int
  pixels: int
  channels: int
  batch: int
  width: int
  mults: tuple[int, ...]
  blocks: int
  attention: tuple[int, ...]


SIZES = {
  # For the tests: nothing to be learnt from it.
  "nano": Size(2, 16, 1, 8, 8, (1, 2), 1, (8,)),
  # The network of configs/vdm_digits.py.
  "tiny": Size(8, 16, 1, 16, 24, (1, 2, 4), 1, (8, 4)),
  "small": Size(10, 32, 3, 4, 32, (1, 2, 4), 2, (16, 8)),
  "medium": Size(10, 64, 3, 2, 64, (1, 2, 4, 8), 2, (32, 16, 8)),
}


def config_of(size: Size) -> dict:
  """A config of ours for a size, with common.py's defaults for the rest."""
  root = pathlib.Path(__file__).resolve().parents[1]
  common = runpy.run_path(str(root / "configs" / "common.py"))
  config = json.loads(common["base"]().to_json_best_effort())
  config["dtype"] = "float32"
  shape = (size.pixels, size.pixels, size.channels)
  config["data"].update(frame_shape=shape, num_threads=2, prefetch_mb=64)
  config["task"] = common["unconditional"](num_frames=size.frames).to_dict()
  config["model"].update(
    channels=size.width,
    channel_mults=size.mults,
    blocks=size.blocks,
    attention_resolutions=size.attention,
    head_dim=size.width,
    embedding_dim=4 * size.width,  # As theirs.
    mlp_layers=2,
  )
  config["train"].update(batch_size=size.batch, num_steps=1000)
  config["sampling"].update(steps=SAMPLER_STEPS)
  return config


def measure(call) -> tuple[float, float]:
  """Seconds of one call: wall, processor."""
  processor, wall = time.process_time(), time.perf_counter()
  call()
  return time.perf_counter() - wall, time.process_time() - processor


class Ours:
  """vdm_jax, compiled.

  Attributes:
    parameters: of the network.
    flop: of each part.
  """

  def __init__(self, size: Size, devices):
    config = config_of(size)
    system = systems.build(config)
    self._programs = program.Program(system, config, devices=devices)
    self._key = jax.random.key(0)
    self._state = self._programs.init(self._key)
    leaves = jax.tree.leaves(self._state.params)
    self.parameters = sum(leaf.size for leaf in leaves)

    mesh = self._programs.mesh
    rows, whole = sharding.batch(mesh), sharding.replicated(mesh)
    batch = jax.device_put(random_batch(system, size.batch), rows)
    settings = Settings.from_config(config["sampling"])
    sample = jax.jit(
      functools.partial(window.sample_window, system, settings, any_observed=False),
      in_shardings=(whole, rows, rows, rows, rows),
      out_shardings=rows,
    )
    video = jax.device_put(np.zeros(batch["video"].shape, np.float32), rows)
    keys = jax.device_put(jax.random.split(self._key, size.batch), rows)
    frames = jax.tree.map(lambda a: a + 0, batch["frames"])

    def sampled(params):
      return sample(params, video, frames, {}, keys)

    self._batch, self._sample = batch, sampled
    params = self._state.params
    self.flop = {
      "step": flops.count(self._programs.step, self._state, batch, self._key),
      "forward": flops.count(self._programs.evaluate, params, batch, self._key),
      "sample": flops.count(sampled, params) / SAMPLER_STEPS,
    }

  def call(self, part: str) -> None:
    """Runs a part once and waits for it; 'sample' is all `SAMPLER_STEPS`."""
    if part == "step":
      self._state, done = self._programs.step(self._state, self._batch, self._key)
      done = (self._state, done)
    elif part == "forward":
      done = self._programs.evaluate(self._state.params, self._batch, self._key)
    else:
      done = self._sample(self._state.params)
    jax.block_until_ready(done)

  def measure(self, part: str) -> tuple[float, float]:
    wall, processor = measure(lambda: self.call(part))
    calls = SAMPLER_STEPS if part == "sample" else 1
    return wall / calls, processor / calls


def random_batch(system, batch_size: int):
  """Noise as a training batch of an unconditional system."""
  rng = np.random.default_rng(0)
  task = system.task
  chosen = [task.sample(rng, [40] * task.num_sources) for _ in range(batch_size)]
  names = [field.name for field in dataclasses.fields(Frames)]
  shape = system.batch_spec(batch_size)["video"].shape
  return {
    "video": rng.integers(0, 256, shape, dtype=np.uint8),
    "frames": Frames(**{n: np.stack([getattr(c, n) for c in chosen]) for n in names}),
    "cond": {},
  }


class Worker:
  """The process in the other environment; see `torch_worker.py`."""

  def __init__(self, python: str):
    script = pathlib.Path(__file__).with_name("torch_worker.py")
    self._process = subprocess.Popen(
      [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

  def ask(self, **request):
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    answer = self._process.stdout.readline()
    if not answer:
      raise RuntimeError("the PyTorch side died; its message is above")
    return json.loads(answer)

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def environment(folder: pathlib.Path) -> str:
  """A Python with the reference package, installed at the first use."""
  python = folder / "bin" / "python"
  done = folder / "installed"
  wanted = " ".join([TORCH, *PACKAGES, *SMALL_PACKAGES])
  if done.exists() and done.read_text() == wanted:
    return str(python)
  print(f"installing {REFERENCE} and CPU PyTorch in {folder}", file=sys.stderr)
  subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
  pip = [str(python), "-m", "pip", "install", "--quiet"]
  # A CPU build where the registry has one; --env takes an environment made by hand.
  subprocess.run([*pip, TORCH], check=True)
  subprocess.run([*pip, *SMALL_PACKAGES], check=True)
  # Without what it asks for: transformers and torchvision would bring CUDA along,
  # and neither is needed by an unconditional network.
  subprocess.run([*pip, "--no-deps", *PACKAGES], check=True)
  done.write_text(wanted)
  return str(python)


def input_pipeline(size: Size, seconds: float = 3.0, videos: int = 400) -> dict:
  """Videos a second of the input pipeline alone, on moving digits."""
  name = f"moving_digits/{size.pixels}px_1digit_{size.frames}frames_{videos}videos"
  name += "_rgb" * (size.channels == 3)
  system = systems.build(config_of(size))
  with tempfile.TemporaryDirectory() as folder:
    sources.ensure_built(name, folder)
    source = sources.load(name, folder, "train")
    batches = pipeline.make_pipeline(
      source,
      system.task,
      batch_size=size.batch,
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
    rate = count * size.batch / (time.perf_counter() - start)
    batches.close()
  return {"videos_per_second": rate, "seconds_per_batch": size.batch / rate}


def run_size(size: Size, devices, worker, parts, turns: int) -> dict:
  """Measures one size: {side: {parameters, flop, seconds, processor_seconds}}."""
  ours = Ours(size, devices)
  sides = {"vdm_jax": (ours, ours.measure)}
  result = {"vdm_jax": {"parameters": ours.parameters, "flop": ours.flop}}
  if worker is not None:
    threads = len(os.sched_getaffinity(0))
    built = worker.ask(do="build", size=dataclasses.asdict(size), threads=threads)
    for layout in LAYOUTS:
      name = f"torch {layout}"
      sides[name] = (
        None,
        functools.partial(
          lambda layout, part: worker.ask(do="measure", layout=layout, part=part),
          layout,
        ),
      )
      result[name] = {key: built[key] for key in ("parameters", "flop")}
  for side in result.values():
    side.update(seconds={}, processor_seconds={})
  for part in parts:
    times = {name: [] for name in sides}
    for turn in range(turns + 1):
      for name, (_, call) in sides.items():
        # Threads that spin for more work after a call would slow the other side.
        time.sleep(0.05)
        found = call(part)
        if turn:  # The first compiles and allocates.
          times[name].append(found)
      print(f"\r{part}: turn {turn} of {turns}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name, found in times.items():
      wall, processor = zip(*found, strict=True)
      result[name]["seconds"][part] = wall
      result[name]["processor_seconds"][part] = processor
  return result


def rows(name: str, result: dict, parts):
  """The lines of a size's table: (size, part, side, cells) by column."""
  for part in parts:
    for side, r in result.items():
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
      }


def ratios(result: dict, parts) -> dict:
  """Ours over PyTorch's better layout, medians: time, and per GFLOP."""
  theirs = [name for name in result if name != "vdm_jax"]
  found = {}
  for part in parts if theirs else ():
    ours = result["vdm_jax"]
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
  left = ("size", "part", "side")

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
  """What was measured on."""
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
    "hugepages": _HUGEPAGES in os.environ.get("GLIBC_TUNABLES", ""),
  }


def share(devices, batch: int):
  """As many devices as the batch can be split over."""
  return devices[: max(n for n in range(1, len(devices) + 1) if batch % n == 0)]


def cache_folder() -> pathlib.Path:
  cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(cache) / "vdm_jax" / "benchmark_torch"


def main(argv=None):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  sizes = ("tiny", "small")
  parser.add_argument("--sizes", nargs="+", choices=SIZES, default=sizes)
  parts = (*PARTS, "input")
  parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
  parser.add_argument("--turns", type=int, default=11)
  parser.add_argument("--against", choices=(REFERENCE,), help="package to compare with")
  parser.add_argument(
    "--env", type=pathlib.Path, default=cache_folder(), help="environment of --against"
  )
  parser.add_argument("--platform", default="cpu", help="of ours; 'cpu', 'cuda', 'tpu'")
  parser.add_argument("--devices", type=int, help="virtual CPU devices; default: cores")
  parser.add_argument(
    "--hugepages",
    action="store_true",
    help=f"start again, both sides, with GLIBC_TUNABLES={_HUGEPAGES}",
  )
  parser.add_argument("--json", type=pathlib.Path, help="file for all measurements")
  args = parser.parse_args(argv)
  found = machine()
  if args.hugepages and not found["hugepages"]:
    # glibc reads its tunables once, as a process starts.
    os.environ["GLIBC_TUNABLES"] = _HUGEPAGES
    command = [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:]]
    os.execv(sys.executable, command)
  jax.config.update("jax_platforms", args.platform)
  if args.platform == "cpu":
    jax.config.update("jax_num_cpu_devices", args.devices or found["cores"])

  worker = Worker(environment(args.env)) if args.against else None
  timed = [part for part in args.parts if part != "input"]
  report = {"machine": found, "load_before": os.getloadavg()[0], "sizes": {}}
  table = []
  for name in args.sizes:
    size = SIZES[name]
    devices = share(jax.devices(), size.batch)
    entry = {"size": dataclasses.asdict(size), "devices": len(devices)}
    if timed:
      sides = run_size(size, devices, worker, timed, args.turns)
      entry.update(sides=sides, ratios=ratios(sides, timed))
      table += rows(name, sides, timed)
    if "input" in args.parts:
      entry["input"] = input_pipeline(size)
    report["sizes"][name] = entry
  report["load_after"] = os.getloadavg()[0]
  if worker:
    report["machine"]["torch"] = worker.ask(do="version")
    worker.close()

  versions = ", ".join(f"{key} {value}" for key, value in found.items())
  print(f"{versions}; load {report['load_before']:.1f} to {report['load_after']:.1f}\n")
  if table:
    show(table)
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
