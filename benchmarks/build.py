"""Measures the build of a data set from many small videos: time and memory.

    python -m benchmarks.build
    python -m benchmarks.build --films FOLDER --counts 1000 4000 --workers 1 2

Clips of half a second, 96x64 H.264, are cut out of the videos below a folder (or, by
default, out of a moving pattern), as many different ones as exist, and linked under as
many names as needed. Every row is a build in a separate process. "held" is the largest
memory, in MiB, of the build's own process and of a decoding process."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from vdm_jax import text_table
from vdm_jax.data import decode, video

FRAMES, SIZE = 12, (64, 96)
CLIPS = 64  # Different ones, at most.

_BUILD = """
import json, resource, sys, time
from vdm_jax.data import builders, records
cls, config = builders.parse(
  "video_folder/bench", path=sys.argv[1], image_size="64", num_workers=int(sys.argv[3])
)
start = time.perf_counter()
records.build(cls, config, sys.argv[2])
seconds = time.perf_counter() - start
used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
processor = sum(each.ru_utime + each.ru_stime for each in used)
print(json.dumps([seconds, processor, *(each.ru_maxrss / 1024 for each in used)]))
"""


def clips(films: str) -> list[np.ndarray]:
  """Reads clips uint8 [FRAMES, *SIZE, 3] below a folder, or makes them of a pattern."""
  found = []
  paths = sorted(pathlib.Path(films).rglob("*")) if films else []
  for path in paths:
    if path.suffix.lower() not in decode.VIDEO_SUFFIXES:
      continue
    try:
      frames = video.read_video(path, size=SIZE, max_frames=FRAMES * 8)
    except decode.Unreadable as error:
      print(f"left out: {error}")
      continue
    starts = range(0, len(frames) - FRAMES + 1, FRAMES)
    found += [frames[start : start + FRAMES] for start in starts]
  if not found:
    rng = np.random.default_rng(0)
    for _ in range(CLIPS):
      coarse = rng.integers(0, 256, (8, 12, 3), np.uint8)
      still = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
      found.append(np.stack([np.roll(still, 2 * t, axis=1) for t in range(FRAMES)]))
  return found[:CLIPS]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--films", default="", help="folder of films to cut clips from")
  parser.add_argument("--counts", type=int, nargs="+", default=[1000, 4000])
  parser.add_argument(
    "--workers", type=int, nargs="+", default=[0], help="0: all cores"
  )
  args = parser.parse_args()
  header = ["films", "decoded at a time", "seconds", "ms a film", "films a second"]
  rows = [[*header, "processor ms a film", "held: build", "held: decoder"]]
  with tempfile.TemporaryDirectory() as scratch:
    root = pathlib.Path(scratch)
    (root / "clips").mkdir()
    sources = []
    for number, clip in enumerate(clips(args.films)):
      sources.append(root / "clips" / f"{number}.mp4")
      video.write_mp4(sources[-1], clip, fps=24)
    size = np.mean([path.stat().st_size for path in sources])
    print(f"{len(sources)} different clips of {size / 1000:.1f} kB", flush=True)
    for count in args.counts:
      folder = root / f"films_{count}" / "train"
      folder.mkdir(parents=True)
      for number in range(count):
        os.link(sources[number % len(sources)], folder / f"{number:06d}.mp4")
      for workers in args.workers:
        data_dir = root / f"data_{count}_{workers}_{time.time()}"
        command = [sys.executable, "-c", _BUILD, folder.parent, data_dir, str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, processor, build, decoder = json.loads(done.stdout.splitlines()[-1])
        rows.append([f"{count:,}", str(workers or "all cores"), f"{seconds:.1f}"])
        rows[-1] += [f"{1000 * seconds / count:.2f}", f"{count / seconds:.0f}"]
        rows[-1] += [f"{1000 * processor / count:.2f}"]
        rows[-1] += [f"{build:.0f}", f"{decoder:.0f}"]
        print(*rows[-1], flush=True)
  print(text_table.table(rows))


if __name__ == "__main__":
  main()
