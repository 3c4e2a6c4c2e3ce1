"""Training for so many seconds in all, however often it is interrupted."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from vdm_jax import experiment
from vdm_jax.storage import checkpoint, workdirs


class Stopped(Exception):
  """A signal stopped the demo in the middle; it can go on."""


def train(
  config: Mapping[str, Any], workdir: str, seconds: float, spent: epath.PathLike
) -> None:
  """Trains a run until it has been given `seconds` of wall clock in all.

  Args:
    config: complete.
    workdir: of the run.
    seconds: in all; what earlier calls spent counts.
    spent: JSON file that notes what the run has been given.

  Raises:
    Stopped: by a signal.
  """
  # What a whole call was given counts in full, with its validation; of one that
  # was killed, only the steps that it saved.
  spent = epath.Path(spent)
  given = json.loads(spent.read_text())["seconds"] if spent.exists() else 0.0
  left = seconds - max(given, trained_seconds(workdir))
  if left <= 0:
    say(f"{workdir}: trained for {seconds:g} s already")
    return
  say(f"{left:.0f} s of training on {jax.device_count()} {jax.default_backend()} "
      "device(s); Ctrl-C stops it, the same command goes on")  # fmt: skip
  timed = {**config, "train": {**config["train"], "max_seconds": float(left)}}
  result = experiment.train(timed, workdir)
  unless_stopped(result)
  say(f"{int(result.state.step)} steps done")
  spent.write_text(json.dumps({"seconds": seconds}) + "\n")


def say(text: str) -> None:
  """Tells the person who waits."""
  print(text, flush=True)


def trained_seconds(workdir: str) -> float:
  """Wall clock that the steps up to the newest checkpoint took, 0 for no run.

  Time for validation and samples does not count.
  """
  if not epath.Path(workdir).exists():
    return 0.0
  steps = checkpoint.Checkpoints(workdir, read_only=True).steps
  if not steps:
    return 0.0
  total, before = 0.0, 0
  for line in workdirs.read_metrics(workdir):
    if line.get("steps_per_second") and before < line["step"] <= steps[-1]:
      total += (line["step"] - before) / line["steps_per_second"]
      before = line["step"]
  return total


class Clock:
  """Announces the demo's steps and notes how long each took."""

  def __init__(self):
    self.seconds: dict[str, float] = {}

  def __call__(self, name: str) -> "Clock":
    self._name = name
    return self

  def __enter__(self):
    self._start = time.monotonic()
    say(f"== {self._name}")

  def __exit__(self, *exc):
    self.seconds[self._name] = round(time.monotonic() - self._start, 1)


def unless_stopped(result) -> None:
  """Raises Stopped if a signal ended the training."""
  if result.reason == "signal":
    raise Stopped


@contextlib.contextmanager
def stops_cleanly(out: epath.PathLike) -> Iterator[None]:
  """Turns `Stopped` into a line that says how to go on, and exit code 1."""
  try:
    yield
  except Stopped:
    print(f"stopped; the same command goes on with {out}", file=sys.stderr)
    sys.exit(1)
