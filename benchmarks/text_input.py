"""Times the input pipeline with captions and without, at the paper's batch.

    python -m benchmarks.text_input
    python -m benchmarks.text_input --tokens=64 --width=1024 --batch=128 --images=8

Videos of moving digits, each with eight independent images and nine captions.
Embeddings come from the table that training reads (`vdm_jax.data.captions`), here of
encoder `bytes`: width and tokens are what counts. How long the table takes to make is
shown too.
"""

import argparse
import tempfile
import time

from vdm_jax import text_table
from vdm_jax.data import captions, pipeline
from vdm_jax.data import source as sources
from vdm_jax.tasks import clips


def rate(source, task, batch: int, seconds: float, **cond) -> float:
  """Batches a second."""
  batches = pipeline.make_pipeline(
    source, task, batch_size=batch, seed=0, num_threads=2, prefetch_bytes=1, **cond
  )
  for _ in range(3):
    next(batches)
  count, start = 0, time.perf_counter()
  while time.perf_counter() - start < seconds:
    next(batches)
    count += 1
  found = count / (time.perf_counter() - start)
  batches.close()
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tokens", type=int, default=64)
  parser.add_argument("--width", type=int, default=1024)
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--images", type=int, default=8)
  parser.add_argument("--pixels", type=int, default=64)
  parser.add_argument("--videos", type=int, default=600)
  parser.add_argument("--seconds", type=float, default=10.0)
  args = parser.parse_args()
  name = f"moving_digits/{args.pixels}px_1digit_16frames_{args.videos}videos"
  name += "_rgb_captions"
  task = clips.joint_images(num_frames=16, num_images=args.images)
  with tempfile.TemporaryDirectory() as folder:
    sources.ensure_built(name, folder)
    source = sources.load(name, folder, "train")
    start = time.perf_counter()
    stored = captions.ensure(source, f"bytes:{args.width}", args.tokens)
    made = time.perf_counter() - start
    found = {"without": [], "with": []}
    for _ in range(3):
      found["without"].append(rate(source, task, args.batch, args.seconds))
      with_text = dict(cond=("tokens",), captions=stored)
      found["with"].append(rate(source, task, args.batch, args.seconds, **with_text))
  number = len(captions.distinct(source.metadata))
  print(f"{number} captions embedded in {made:.1f} s")
  lines = [["captions", "batches a second", "videos a second"]]
  for key, rates in found.items():
    middle = sorted(rates)[1]
    lines.append([key, f"{middle:.2f}", f"{args.batch * middle:.0f}"])
  print(text_table.table(lines))


if __name__ == "__main__":
  main()
