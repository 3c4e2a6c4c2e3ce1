"""Measures the memory of protocol `fvd`, which must not grow with the number of clips.

    python -m benchmarks.fvd_memory --clips 100 2000
    python -m benchmarks.fvd_memory --clips 100 2000 --network=none

Each number runs in a separate process, whose largest resident size is printed. Clips of
16x64x64 are drawn as they are read. `--network=none` replaces I3D's features by means,
which tests everything but the network, in seconds.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

SHAPE = (16, 64, 64, 3)


class Means:
  """Stands for the network: 400 features that are means of pixels."""

  def describe(self):
    return {"network": "none"}

  def __call__(self, clips):
    return np.stack([
      clip.reshape(-1)[: 400 * 480].reshape(400, -1).mean(1).astype(np.float32)
      for clip in clips
    ])  # fmt: skip


def measure(count: int, network: str) -> None:
  """Prints largest resident size in MiB and seconds of one comparison."""
  from vdm_jax.evaluation import clip_sources, distances, feature_store
  from vdm_jax.metrics import features, weights

  extractor = Means() if network == "none" else features.Extractor(weights.load("i3d"))
  start = time.monotonic()

  def source(name: str, seed: int) -> clip_sources.Source:
    def read(number):
      rng = np.random.default_rng((seed, number))
      return rng.integers(0, 256, SHAPE, dtype=np.uint8)

    return clip_sources.Source(name, "drawn", count, 0, 0.0, str(seed), read=read)

  with tempfile.TemporaryDirectory() as folder:
    a, b = (
      feature_store.features(
        source(name, seed), lambda _, video: video, extractor, folder, {},
        progress=False,
      )
      for seed, name in enumerate("ab")
    )  # fmt: skip
    distances.measure(a, b)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(f"{peak:.0f} {time.monotonic() - start:.1f}")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--clips", type=int, nargs="+", default=[100, 2000])
  parser.add_argument("--network", choices=("i3d", "none"), default="i3d")
  parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.measure:
    measure(args.measure, args.network)
    return
  print("clips of each source  MiB at most  seconds", flush=True)
  for count in args.clips:
    command = [sys.executable, "-m", "benchmarks.fvd_memory", f"--measure={count}"]
    made = subprocess.run(
      [*command, f"--network={args.network}"], stdout=subprocess.PIPE, check=True
    )
    peak, seconds = made.stdout.decode().split()
    print(f"{count:21d}  {peak:>11}  {seconds:>7}", flush=True)


if __name__ == "__main__":
  main()
