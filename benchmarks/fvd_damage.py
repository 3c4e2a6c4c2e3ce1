"""Measures FVD and KVD of damaged clips against real ones: what the metrics detect.

    python -m benchmarks.fvd_damage --data=moving_digits/64px_2digit_16frames \
        --clips=48 --out=OUT
    python -m benchmarks.fvd_damage --data=FOLDER_OF_FILMS --per_video=8 --size=64 \
        --out=OUT

Half of the clips are the reference and stay as they are; the other half is damaged in
one way at a time. `none` is the floor: real against real. With --per_video, clips are
taken at this many places of each video, without overlap, and videos that are too short
for one are left out; the halves are then of the same videos, at other times, unless
there are more videos than half of the clips. It writes results.json, table.txt and
damage.png; features are kept in OUT, so that a stopped job resumes.
"""

import argparse
import functools
import os
import pathlib

import jax
import numpy as np
import scipy.ndimage

from vdm_jax import text_table
from vdm_jax.evaluation import (
  clip_sources,
  distances,
  feature_store,
  figures,
  protocol,
)
from vdm_jax.metrics import features, weights

FRAMES = 16
NOISE = (4, 8, 16, 32, 64)  # Standard deviation, grey levels.
BLUR = (0.5, 1.0, 2.0, 4.0)  # Of a Gaussian, pixels.


def _noise(sigma):
  def damage(clip, rng):
    return _bytes(clip + sigma * rng.standard_normal(clip.shape))

  return damage


def _blur(sigma):
  def damage(clip, rng):
    del rng
    return _bytes(
      scipy.ndimage.gaussian_filter(clip.astype(float), (0, sigma, sigma, 0))
    )

  return damage


def _bytes(x):
  return np.rint(x).clip(0, 255).astype(np.uint8)


def _dropped(every):
  """Makes the damage that replaces every n-th frame with the one before."""

  def damage(clip, rng):
    del rng
    index = np.arange(len(clip))
    return clip[np.where(index % every == every - 1, index - 1, index)]

  return damage


def _shuffled(clip, rng):
  return clip[rng.permutation(len(clip))]


DAMAGE = {
  "none": lambda clip, rng: clip,
  **{f"noise {sigma}": _noise(sigma) for sigma in NOISE},
  **{f"blur {sigma}": _blur(sigma) for sigma in BLUR},
  "every 4th frame dropped": _dropped(4),
  "every 2nd frame dropped": _dropped(2),
  "reversed": lambda clip, rng: clip[::-1],
  "frames shuffled": _shuffled,
  "first frame held": lambda clip, rng: clip[:1].repeat(len(clip), axis=0),
}


def places(source: clip_sources.Source, per_video: int) -> list[tuple[int, int]]:
  """Lists (video, first frame): the first clip of each video, then the second."""
  if per_video == 1:
    return [(number, 0) for number in range(source.count)]
  found = []
  for number in range(source.count):
    length = len(source.read(number))
    count = min(per_video, length // FRAMES)
    steps = length // count if count else 0
    found += [(place, number, place * steps) for place in range(count)]
  return [(number, first) for _, number, first in sorted(found)]


def run(
  data: str,
  clips: int,
  out: pathlib.Path,
  data_dir: str = "",
  per_video: int = 1,
  size: int = 0,
) -> dict:
  """Measures every damage; returns what results.json holds."""
  source = clip_sources.open_source(data, argument="data", data_dir=data_dir, size=size)
  where = places(source, per_video)
  half = min(clips, len(where)) // 2
  reads = functools.lru_cache(source.count)(source.read)
  extractor = features.Extractor(weights.load("i3d"))

  def read(number, first):
    return reads(number)[first : first + FRAMES]

  def of(first, name):
    def window(number, video):
      rng = np.random.default_rng(number)
      return DAMAGE[name](video, rng)

    part = clip_sources.Source(
      f"{data} ({name})",
      source.kind,
      half,
      0,
      source.fps,
      f"{source.identity} {first}",
      read=lambda n: read(*where[first + n]),
    )
    about = {"damage": name, "frames": FRAMES, "per_video": per_video}
    return feature_store.features(part, window, extractor, out / "features", about)

  real = of(0, "none")
  found = {}
  for name in DAMAGE:
    measured = distances.measure(real, of(half, name))
    found[name] = {key: measured[key] for key in ("fvd", "kvd")}
  return {
    "data": data,
    "clips": half,
    "frames": FRAMES,
    "extractor": extractor.describe(),
    "damage": found,
  }


def table(result: dict) -> str:
  """Formats the numbers as a table."""
  rows = [["damage", "FVD", "KVD"]]
  for name, of in result["damage"].items():
    rows.append(
      [name, *(text_table.cell(of[k]["value"], of[k]["error"]) for k in ("fvd", "kvd"))]
    )
  head = (
    f"{result['clips']} clips of {result['data']} against as many others, damaged; "
    f"{result['frames']} frames, preset tfhub; ± jackknife"
  )
  return f"{head}\n{text_table.table(rows)}"


def draw(result: dict, path: pathlib.Path) -> None:
  """Draws FVD under each damage."""
  found = result["damage"].items()
  values = {name: (of["fvd"]["value"], of["fvd"]["error"]) for name, of in found}
  figures.bars(path, f"FVD of {result['clips']} clips, damaged", values)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data", required=True)
  parser.add_argument("--data_dir", default="")
  parser.add_argument("--clips", type=int, default=48)
  parser.add_argument("--per_video", type=int, default=1)
  parser.add_argument("--size", type=int, default=0, help="of films, in pixels")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  jax.config.update("jax_num_cpu_devices", os.cpu_count())
  arguments.out.mkdir(parents=True, exist_ok=True)
  result = run(
    arguments.data, arguments.clips, arguments.out, arguments.data_dir,
    arguments.per_video, arguments.size,
  )  # fmt: skip
  (arguments.out / "table.txt").write_text(table(result) + "\n")
  (arguments.out / "results.json").write_text(protocol.as_json(result))
  draw(result, arguments.out / "damage.png")
  print(table(result))


if __name__ == "__main__":
  main()
