"""Traces of some steps, for TensorBoard and Perfetto."""

import re
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from etils import epath

from vdm_jax.errors import UserError
from vdm_jax.training import progress


class Range(NamedTuple):
  """The first and the last step to trace, counted from 1 as in the log."""

  first: int
  last: int

  def __str__(self) -> str:
    return f"{self.first}:{self.last}"


def parse(text: str) -> Range:
  """Parses 'FIRST:LAST'.

  Raises:
    UserError: the text has another form, or the range is empty.
  """
  match = re.fullmatch(r"(\d+):(\d+)", text.strip())
  steps = Range(int(match[1]), int(match[2])) if match else None
  if steps is None or not 1 <= steps.first <= steps.last:
    raise UserError(
      f"`profile={text}`: expected FIRST:LAST, two steps of the run counted from 1, as "
      "in `profile=10:14`"
    )
  return steps


def check(steps: Range, num_steps: int) -> None:
  """Checks a range against the number of steps of a run.

  Raises:
    UserError: the run ends before the range does.
  """
  if steps.last > num_steps:
    raise UserError(
      f"`profile={steps}`: expected steps of this run, which are 1 to {num_steps}"
    )


def remaining(steps: Range, first_step: int) -> tuple[Range | None, str]:
  """Finds what is left of a range after `first_step` steps.

  A job that is started again by the same command must resume, with the range behind it,
  too.

  Returns:
    The steps left, None for none; and a sentence about those that are not, '' if all
    are.
  """
  if first_step < steps.first:
    return steps, ""
  where = f"steps {steps}: the run is at step {first_step} already"
  if first_step >= steps.last:
    return None, f"{where}, nothing is traced"
  left = Range(first_step + 1, steps.last)
  return left, f"{where}, {left} are traced"


class Profile:
  """A context manager that traces the steps of a range into `WORKDIR/profile`.

  It is entered around the run, so that a run that ends early still writes its trace.
  """

  def __init__(self, steps: Range | None, workdir: str, log: progress.Report):
    """Prepares the trace; without steps it does nothing."""
    self._steps = steps
    self._folder = epath.Path(workdir) / "profile"
    self._log = log
    self._tracing = False
    self._local: tempfile.TemporaryDirectory | None = None

  def __enter__(self):
    return self

  def __exit__(self, *exc):
    if self._tracing:
      self._stop()

  def around(self, queue: Callable[[Any, int], Any], state: Any, step: int) -> Any:
    """Calls queue(state, step), which returns the next state, and traces it if due.

    The trace begins when all earlier steps are done, and ends when its last step is.
    """
    if self._steps is None or not self._steps.first <= step <= self._steps.last:
      return queue(state, step)
    if step == self._steps.first:
      with self._log.paused():
        jax.block_until_ready(state)
        self._start()
    with jax.profiler.StepTraceAnnotation("train", step_num=step):
      state = queue(state, step)
    if step == self._steps.last:
      jax.block_until_ready(state)
      with self._log.paused():
        self._stop()
      self._log.say(f"steps {self._steps}: traced into {self._folder}")
    return state

  def _start(self):
    folder = str(self._folder)
    if "://" in folder:  # The profiler cannot write to object stores.
      self._local = tempfile.TemporaryDirectory()
      folder = self._local.name
    jax.profiler.start_trace(folder)
    self._tracing = True

  def _stop(self):
    self._tracing = False
    jax.profiler.stop_trace()
    if self._local is None:
      return
    with self._local as local:
      for file in epath.Path(local).rglob("*"):
        if file.is_file():
          target = self._folder / file.relative_to(local)
          target.parent.mkdir(parents=True, exist_ok=True)
          file.copy(target)
