"""Reports of a run's progress: progress bar, rates, and the output of its writers."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tqdm
from etils import epath

from vdm_jax.training import parameters
from vdm_jax.training import writers as writing


class Work(NamedTuple):
  """The work of a training step, and the devices' peak rate.

  Attributes:
    flops: counts the operations of a step over all devices, a multiply-add as two; it
      is called once and may take seconds.
    peak: operations per second of all devices together in bfloat16; None if unknown.
  """

  flops: Callable[[], float]
  peak: float | None


class Report:
  """Reports the progress of a run, if `active`.

  A run that stops by time (`timed`) shows the elapsed fraction of its time.
  """

  def __init__(
    self,
    workdir: str,
    *,
    first_step: int,
    num_steps: int,
    batch_size: int,
    timed: bool = False,
    work: Work | None = None,
    writers: Callable[[], Sequence[writing.Writer]] | None = None,
    active: bool = True,
  ):
    self._active = active
    self._paused = self._waited = 0.0
    self._work, self._flops = work, None
    self._timed = timed
    if not active:
      return
    self._workdir = epath.Path(workdir)
    self._writers = [
      *(writers() if writers else ()),  # First, as these may raise.
      writing.Jsonl(workdir, first_step),
      writing.TensorBoard(workdir),
    ]
    self._batch_size = batch_size
    self._bar = tqdm.tqdm(
      total=None if timed else num_steps,
      initial=first_step,
      desc="train",
      unit="step",
      smoothing=0.05,
      dynamic_ncols=True,
      # In a log file a line now and then, in a terminal a live bar.
      mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )
    self._mark = (first_step, time.perf_counter())

  def step(
    self, step: int, recent: Mapping[str, float] | None = None, share: float = 0.0
  ) -> None:
    """Moves the bar to a finished step.

    Args:
      step: number of the step.
      recent: means since the last log, if they are known.
      share: elapsed fraction of the run's time, if it has a limit.
    """
    if not self._active:
      return
    if recent is not None:
      self._bar.set_postfix_str(self._short(recent, self._speed(step)), refresh=False)
    if self._timed:
      self._bar.set_description_str(f"train, {share:.0%} of the time", refresh=False)
    self._bar.update(step - self._bar.n)

  @contextlib.contextmanager
  def paused(self):
    """Excludes the time within (validation, samples) from training time."""
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  @contextlib.contextmanager
  def waiting(self):
    """Counts the time within as waiting for a batch."""
    start = time.perf_counter()
    yield
    self._waited += time.perf_counter() - start

  def log(self, step: int, values: Mapping[str, float]) -> None:
    """Logs the means since the last log."""
    if not self._active:
      return
    speed = self._speed(step)
    self._mark, self._paused = (step, time.perf_counter()), 0.0
    self._waited = 0.0
    # JSON has no NaN, so that the loss is null if all steps were skipped.
    values = {"loss": None, **values, **speed, "time": time.time()}
    for writer in self._writers:
      writer.scalars(step, values)

  def held_out(self, step: int, values: Mapping[str, float]) -> None:
    """Logs what was found of held-out videos or samples, after the means of a step."""
    if self._active:
      for writer in self._writers:
        writer.scalars(step, values)

  def gif(self, step: int, tag: str, encoded: bytes, shape: tuple[int, ...]) -> None:
    """Passes an encoded GIF of [T, H, W, C] frames to the writers."""
    if self._active:
      for writer in self._writers:
        writer.gif(step, tag, encoded, shape)

  def parameters(self, params: Any) -> None:
    """Writes the table of a network's parameters, and prints their number."""
    if not self._active:
      return
    path = self._workdir / "parameters.txt"
    path.write_text(parameters.table(params))
    self.say(f"{parameters.count(params):,} parameters: {path}")

  def say(self, text: str) -> None:
    """Prints a line above the bar."""
    if self._active:
      self._bar.write(text, file=sys.stderr)

  def close(self) -> None:
    if self._active:
      self._bar.close()
      for writer in self._writers:
        writer.close()

  def _speed(self, step: int) -> dict[str, float]:
    """Computes the speed since the last log."""
    now = time.perf_counter()
    if self._work is not None and self._flops is None:
      self._flops = self._work.flops()
      self._paused += time.perf_counter() - now
    first, start = self._mark
    seconds = max(time.perf_counter() - start - self._paused, 1e-9)
    steps = max(step - first, 1)
    rate = (step - first) / seconds
    speed = {
      "steps_per_second": rate,
      "videos_per_second": rate * self._batch_size,
      "step_seconds": seconds / steps,
      "data_seconds": self._waited / steps,
      "compute_seconds": max(seconds - self._waited, 0.0) / steps,
    }
    if self._flops:
      speed["tflops_per_second"] = rate * self._flops / 1e12
      if self._work.peak:
        speed["share_of_peak"] = rate * self._flops / self._work.peak
    return speed

  def _short(self, recent, speed) -> str:
    """Selects the few values that fit beside a bar."""
    parts = [f"loss {recent.get('loss', float('nan')):.4f}"]
    if "grad_norm" in recent:
      parts.append(f"gradient {recent['grad_norm']:.3g}")
    if "learning_rate" in recent:
      parts.append(f"rate {recent['learning_rate']:.3g}")
    parts.append(f"{speed['videos_per_second']:.1f} videos/s")
    if "share_of_peak" in speed:
      parts.append(f"{speed['share_of_peak']:.0%} of peak")
    elif "tflops_per_second" in speed:
      parts.append(f"{speed['tflops_per_second']:.3g} TFLOP/s")
    return ", ".join(parts)
