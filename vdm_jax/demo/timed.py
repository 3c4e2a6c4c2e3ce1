"""Training for so many seconds in all, however often it is interrupted."""

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

# Compiling takes the better part of it.
LEAST_SECONDS = 10.0


# The learning rate falls with the clock that stops the run: its last minutes are not
# spent at the full rate, however many steps the machine takes.
_ANNEALED = {"decay": "cosine", "decay_by": "time"}


class Stopped(Exception):
  """A signal stopped the demo in the middle; it can resume."""


def check_seconds(seconds: float, share: float = 1.0) -> None:
  """Refuses a time in which nothing can be trained.

  Args:
    seconds: that the user gives.
    share: of them, for the shortest training.

  Raises:
    UserError: that is less than compiling takes.
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
  """Trains a run until it has been given `seconds` of wall clock in all.

  Leaves the page of `vdm-jax report` in it.

  Args:
    config: complete.
    workdir: of the run.
    seconds: in all; what earlier calls took up to their last checkpoint counts.
    init_from: run whose weights a new one starts from.

  Raises:
    Stopped: by a signal.
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
  """Tells the person who waits."""
  print(text, flush=True)


def trained_seconds(workdir: str) -> float:
  """Wall clock that a run took up to its newest checkpoint, 0 for no run."""
  if not epath.Path(workdir).exists():
    return 0.0
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  return checkpoints.meta().get("seconds", 0.0) if checkpoints.steps else 0.0


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
  """Turns `Stopped` into a line that says how to resume, and exit code 1."""
  try:
    yield
  except Stopped:
    print(f"stopped; the same command resumes {out}", file=sys.stderr)
    sys.exit(1)
