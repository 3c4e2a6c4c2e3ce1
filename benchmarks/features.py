"""Measures clips per second of the networks for metrics.

    python -m benchmarks.features
    python -m benchmarks.features --frames 16 64 --dtype float32 bfloat16 --batch 8

Clips are noise of 64x64 pixels; I3D takes them at 224, C3D takes 16 frames of 112,
LPIPS takes pairs of frames as they are. Weights that are not installed are drawn at
random (no package has C3D's). Compile time is shown separately. Each row is one
program."""

import argparse
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np

from vdm_jax import text_table
from vdm_jax.errors import UserError
from vdm_jax.metrics import features, perceptual, weights
from vdm_jax.metrics.networks import c3d, i3d

PIXELS = 64
ROWS = ("i3d", "c3d", "lpips")


def programs(args: argparse.Namespace) -> Iterator[tuple[str, int, Callable]]:
  """Yields (name, items of a call, the call) of every row."""
  rng = np.random.default_rng(0)

  def clips(frames, pixels):
    return rng.integers(0, 256, (args.batch, frames, pixels, pixels, 3), np.uint8)

  if "i3d" in args.networks:
    for frames in args.frames:
      for dtype in args.dtype:
        found = features.Extractor(_i3d(), dtype=dtype, batch_size=args.batch)
        batch = clips(frames, PIXELS)
        name = f"I3D, {frames} frames, {dtype}"
        yield name, args.batch, lambda found=found, batch=batch: found(batch)
  if "c3d" in args.networks:
    net, batch = c3d.C3D(), clips(c3d.FRAMES, c3d.SIZE).astype(np.float32) / 255
    params = jax.jit(net.init)(jax.random.key(0), batch[:1])
    apply = jax.jit(net.apply)
    yield (
      f"C3D, {c3d.FRAMES} frames",
      args.batch,
      lambda: jax.block_until_ready(apply(params, batch)),
    )
  if "lpips" in args.networks:
    first, second = clips(args.frames[0], PIXELS), clips(args.frames[0], PIXELS)
    pair = [x.reshape(-1, *x.shape[2:]) for x in (first, second)]
    for net in ("alexnet", "vgg16"):
      distance = perceptual.Perceptual(net)
      name = f"LPIPS ({net}), pairs of frames"
      yield name, len(pair[0]), lambda distance=distance: distance(*pair)


def _i3d() -> weights.Weights:
  """Returns the weights of I3D, random ones where there are none."""
  try:
    return weights.load("i3d")
  except UserError:
    net = i3d.InceptionI3D()
    clip = np.zeros((1, 16, i3d.SIZE, i3d.SIZE, 3), np.float32)
    params = jax.jit(net.init)(jax.random.key(0), clip)["params"]
    return weights.Weights("i3d", jax.device_get(params), "random", "")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--networks", nargs="+", choices=ROWS, default=list(ROWS))
  parser.add_argument("--frames", type=int, nargs="+", default=[16, 64])
  parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
  parser.add_argument("--batch", type=int, default=4)
  parser.add_argument("--turns", type=int, default=3)
  args = parser.parse_args()
  device = jax.devices()[0]
  print(f"{len(jax.devices())} {device.device_kind}, jax {jax.__version__}")
  rows = [["network", "items a second", "ms an item", "first call, s"]]
  for name, items, call in programs(args):
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start
    times = []
    for _ in range(args.turns):
      start = time.perf_counter()
      call()
      times.append(time.perf_counter() - start)
    each = float(np.median(times)) / items
    rows.append([name, f"{1 / each:.2f}", f"{1000 * each:.1f}", f"{first:.1f}"])
  print(text_table.table(rows))


if __name__ == "__main__":
  main()
