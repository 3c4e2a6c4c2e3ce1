"""Training for a total number of seconds, however often it is interrupted."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from etils import epath

from vdm_jax import experiment
from vdm_jax.errors import UserError
from vdm_jax.report import contents, page
from vdm_jax.storage import checkpoint

# Most of it is compilation.
LEAST_SECONDS = 10.0


# The learning rate decays with the time that stops the run, so that its last minutes
# are not spent at the full rate, however many steps the machine takes.
_ANNEALED = {"decay": "cosine", "decay_by": "time"}


class Stopped(Exception):
  """Raised if a signal stopped the demo, which can be resumed."""


def check_seconds(seconds: float, share: float = 1.0) -> None:
  """Checks that there is enough time to train.

  Args:
    seconds: seconds that the user gives.
    share: share of them for the shortest training.

  Raises:
    UserError: that is less than compilation takes.
  """
  least = LEAST_SECONDS / share
  if not seconds >= least:
    raise UserError(
      f"`seconds={seconds:g}` (DEMO_SECONDS of make): expected {least:g} or more; less "
      "is over before the training program is compiled"
    )


def train(
  config: Mapping[str, Any],
  workdir: str,
  seconds: float,
  *,
  init_from: str | None = None,
) -> None:
  """Trains a run for `seconds` of wall clock in total, and writes its page.

  Args:
    config: complete config.
    workdir: workdir of the run.
    seconds: total seconds; earlier calls, up to their last checkpoint, count.
    init_from: run whose weights a new one starts from.

  Raises:
    Stopped: a signal came.
  """
  left = seconds - trained_seconds(workdir)
  if left <= 0:
    say(f"{workdir}: trained for {seconds:g} s already")
    return
  say(f"{left:.0f} s of training on {jax.device_count()} {jax.default_backend()} "
      "device(s); Ctrl-C stops it, the same command resumes it")  # fmt: skip
  timed = {
    **config,
    "train": {**config["train"], "max_seconds": float(seconds)},
    "optimizer": {**config["optimizer"], **_ANNEALED},
  }
  result = experiment.train(timed, workdir, init_from=init_from)
  unless_stopped(result)
  page.write(epath.Path(workdir) / "report.html", [contents.read(workdir)])
  say(f"{int(result.state.step)} steps done; curves in {workdir}/report.html")


def say(text: str) -> None:
  """Prints a message for the waiting user."""
  print(text, flush=True)


def trained_seconds(workdir: str) -> float:
  """Reads the wall-clock seconds of a run up to its newest checkpoint; 0 for no run."""
  if not epath.Path(workdir).exists():
    return 0.0
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  return checkpoints.meta().get("seconds", 0.0) if checkpoints.steps else 0.0


class Clock:
  """Announces the demo's steps and records the time of each."""

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
  """Turns `Stopped` into a line on how to resume, and exit code 1."""
  try:
    yield
  except Stopped:
    print(f"stopped; the same command resumes {out}", file=sys.stderr)
    sys.exit(1)
