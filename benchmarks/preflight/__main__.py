"""Compiles the rows; see the package's text."""

import argparse
import json
import pathlib
import subprocess
import sys
from concurrent import futures

import benchmarks.preflight
from benchmarks.preflight import page
from vdm_jax import atomic

_VDM = (
  "vdm_ucf101",
  "vdm_bair",
  "vdm_kinetics600",
  "vdm_text_small",
  "vdm_text_large",
  "vdm_text_128",
)
_OTHERS = (
  "fdm_carla",
  "fdm_gqn_mazes",
  "fdm_minerl",
  "fdm_maze",
  "ramvid_kinetics600",
  "ramvid_ucf101",
  "ramvid_bair",
  "rvd_bair",
  "rvd_kth",
  "rvd_cityscapes",
  "rvd_simulation",
)
# Config, step to compile and further flags, by the name of their row.
ON_SLICES = {
  row: (config, "train")
  for name in _VDM
  for row, config in ((name, name), (f"{name}-8", f"{name}:chips=8"))
} | {name: (name, "train") for name in _OTHERS}
# The paper's cascade: base videos from captions, then larger ones guided by them.
ON_SLICES |= {
  "vdm_text_large-8-sample": ("vdm_text_large:chips=8", "sample"),
  "vdm_text_128-8-enlarge": ("vdm_text_128:chips=8", "enlarge"),
}
# As many micro-batches as these configs had in the rows of `before.json`.
ON_SLICES |= {
  f"{name}-8-halved": (f"{name}:chips=8", "train", f"--config.train.accumulate={count}")
  for name, count in (("vdm_ucf101", 8), ("vdm_kinetics600", 16), ("vdm_text_large", 8))
}
ON_GPUS = {name: (f"{name}:chips=8", "train") for name in _VDM} | {
  name: (name, "train") for name in ("vdm_digits", "vdm_digits64", *_OTHERS)
}


def main(argv: list[str] | None = None) -> None:
  """Makes what is missing, and the page."""
  parser = argparse.ArgumentParser(
    description=benchmarks.preflight.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--topology", default="", help="GPUs, as h100:8; default TPUs")
  parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
  args = parser.parse_args(argv)
  known = ON_GPUS if args.topology else ON_SLICES
  if unknown := [row for row in args.rows if row not in known]:
    parser.error(f"expected rows of {', '.join(known)}, found {', '.join(unknown)}")

  def make(row: str) -> bool:
    path = args.out / (f"gpu_{row}.json" if args.topology else f"{row}.json")
    return path.exists() or compile_row(known[row], args.topology, path)

  with futures.ThreadPoolExecutor(args.jobs) as pool:
    made = list(pool.map(make, args.rows or known))
  write_page(args.out)
  if not all(made):
    sys.exit("some rows could not be compiled")


def compile_row(row: tuple[str, ...], topology: str, path: pathlib.Path) -> bool:
  """Runs one preflight in a process of its own; keeps its result if there is one."""
  config, what, *further = row
  command = [sys.executable, "-m", "vdm_jax", "preflight", f"--config={config}"]
  command += [f"--what={what}", "--json", "--notry_knobs", *further]
  if topology:
    command.append(f"--topology={topology}")
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    print(f"{config}: {done.stdout[-500:]}{done.stderr[-500:]}", file=sys.stderr)
    return False
  atomic.write(path, done.stdout)
  found = json.loads(done.stdout)
  fits = {True: "fits", False: "does not fit", None: "unknown"}[found["fits"]]
  print(f"{config}: {fits}, compiled in {found['seconds']['compile']} s", flush=True)
  return True


def write_page(out: pathlib.Path) -> None:
  """Writes OUT.md of the rows in OUT, in the order of the papers."""

  def read(rows, prefix=""):
    paths = {row: out / f"{prefix}{row}.json" for row in rows}
    return {row: json.loads(p.read_text()) for row, p in paths.items() if p.exists()}

  before = out / "before.json"
  text = page.page(
    read(ON_SLICES),
    read(ON_GPUS, "gpu_"),
    json.loads(before.read_text()) if before.exists() else {},
  )
  atomic.write(out.with_suffix(".md"), text)


if __name__ == "__main__":
  main()
