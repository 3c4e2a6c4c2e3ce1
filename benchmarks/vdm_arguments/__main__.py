"""Runs comparisons; see the package's text."""

import argparse
import json
import os
import pathlib
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent import futures

from benchmarks import vdm_arguments
from benchmarks.vdm_arguments import settings


def main() -> None:
  parser = argparse.ArgumentParser(
    description=vdm_arguments.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  letters = sorted({setting.comparison for setting in settings.SETTINGS})
  parser.add_argument("comparisons", nargs="*", default=letters, metavar="a b c d e")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--seeds", type=int, default=3, help="how many")
  parser.add_argument("--steps", type=int, default=1500, help="of training")
  parser.add_argument("--clips", type=int, default=settings.CLIPS)
  parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
  parser.add_argument("--no_fvd", action="store_true", help="what a classifier says")
  parser.add_argument("--data_dir", default="", help="default $VDM_JAX_DATA")
  parser.add_argument(
    "--stop_after", choices=("train", "sample"), help="without what follows"
  )
  parser.add_argument("--job", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if unknown := set(args.comparisons) - set(letters):
    parser.error(f"expected comparisons of {' '.join(letters)}, found {unknown}")
  if args.job:
    work(args)
    return
  args.out.mkdir(parents=True, exist_ok=True)
  chosen, seeds = settings.chosen(args.comparisons), range(args.seeds)

  from vdm_jax.data import source

  source.ensure_built(settings.DATA, args.data_dir or None)
  phases = {
    "train": [f"train {model} {seed}" for seed in seeds
              for model in settings.models(chosen)],
    "sample": [f"sample {file} {seed}" for seed in seeds
               for file in settings.samplings(chosen)],
  }  # fmt: skip
  for phase, jobs in phases.items():
    start = time.monotonic()
    with futures.ThreadPoolExecutor(args.jobs, initializer=_shares(args.jobs)) as pool:
      codes = list(pool.map(started, jobs))
    print(f"{phase}: {len(jobs)} jobs in {time.monotonic() - start:.0f} s", flush=True)
    if failed := [job for job, code in zip(jobs, codes, strict=True) if code]:
      sys.exit(f"failed, see {args.out}/logs: {', '.join(failed)}")
    if args.stop_after == phase:
      return
  from benchmarks.vdm_arguments import measure

  print(measure.report(args.out, chosen, seeds, args.data_dir, args.clips,
                       not args.no_fvd))  # fmt: skip


def _shares(jobs: int) -> Callable[[], None]:
  """Returns what gives a thread, and its child processes, a share of the processors.

  Jobs that share processors wait for each other's threads.
  """
  if not hasattr(os, "sched_setaffinity"):  # Of Linux alone.
    return lambda: None
  processors = sorted(os.sched_getaffinity(0))
  shares = queue.Queue()
  for job in range(jobs):
    shares.put(processors[job::jobs] or processors)
  return lambda: os.sched_setaffinity(0, shares.get())


def started(job: str) -> int:
  """Runs a job in a process of its own; its output goes to OUT/logs."""
  out = pathlib.Path(_flag("--out"))
  (out / "logs").mkdir(exist_ok=True)
  command = [sys.executable, "-m", "benchmarks.vdm_arguments", *sys.argv[1:]]
  environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **os.environ}
  with open(out / "logs" / f"{job.replace(' ', '_')}.txt", "w") as log:
    return subprocess.run(
      [*command, f"--job={job}"], stdout=log, stderr=log, env=environment, check=False
    ).returncode


def _flag(name: str) -> str:
  for place, word in enumerate(sys.argv):
    if word == name:
      return sys.argv[place + 1]
    if word.startswith(f"{name}="):
      return word.partition("=")[2]
  raise KeyError(name)


def work(args: argparse.Namespace) -> None:
  """Does one job: trains a model, or samples what a comparison needs."""
  import jax

  jax.config.update("jax_compilation_cache_dir", str(args.out / "programs"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1)
  kind, name, seed = args.job.split()
  seed = int(seed)
  if kind == "train":
    from vdm_jax import experiment

    config = settings.config(name, seed, args.steps, args.data_dir)
    experiment.train(config, str(args.out / "runs" / f"{name}_{seed}"))
    return
  sample(args.out, settings.samplings(settings.SETTINGS)[name], seed, args.clips)


def sample(out: pathlib.Path, setting: settings.Setting, seed: int, clips: int) -> None:
  """Samples a setting with the models of a seed, unless that is done."""
  import numpy as np

  from vdm_jax import run_data, sampling
  from vdm_jax.pixels import to_float, to_uint8
  from vdm_jax.sampling import cascade

  path = out / "samples" / f"{setting.file}_{seed}.npz"
  if path.exists():
    return
  path.parent.mkdir(exist_ok=True)

  def load(name):
    return sampling.load(str(out / "runs" / f"{name}_{seed}"))

  model = load(setting.model)
  labels = np.arange(clips) % 10
  options = {"batch_size": clips, "seed": 1000 * seed, **setting.options}
  if setting.given:
    config = model.info["config"]
    test = run_data.open_split(config, model.system, "test")
    labels = np.asarray(test.labels[:clips])
    given = run_data.given_clips(
      config, model.system, "test", clips, range(setting.given)
    )
    options["given"] = to_float(given)
  start = time.monotonic()
  if setting.base:
    base = load(setting.base)
    small = base.sample(clips, label=labels, batch_size=clips, seed=1000 * seed)
    options.pop("length")
    videos = cascade.enlarge(model, base.system, small, 1, label=labels, **options)
  else:
    videos = model.sample(clips, label=labels, **options)
  seconds = time.monotonic() - start
  about = {"seconds": seconds, "step": model.info["step"]}
  temporary = path.with_name(f".{path.name}")
  with open(temporary, "wb") as file:
    np.savez_compressed(
      file, videos=to_uint8(videos), labels=labels, about=json.dumps(about)
    )
  temporary.replace(path)


if __name__ == "__main__":
  main()
