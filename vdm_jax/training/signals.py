"""Handling of SIGTERM and SIGINT, so that a run can save before it ends."""

import os
import signal

import jax


class Terminate:
  """A context manager that notes SIGTERM and SIGINT, so that the run can save.

  With several processes SIGTERM is left to jax.distributed, whose handler informs all
  of them, so that they stop after the same step; a SIGINT is passed on to it.

  Attributes:
    asked: whether a signal came.
  """

  def __init__(self):
    self.asked = False
    self._old = {}

  def __enter__(self):
    several = jax.process_count() > 1
    for number in (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM):
      try:
        self._old[number] = signal.signal(number, self._note)
      except ValueError:  # Not in the main thread, where the caller handles signals.
        break
    return self

  def __exit__(self, *exc):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    del frame
    if self.asked and number == signal.SIGINT:
      raise KeyboardInterrupt  # The user asked a second time.
    self.asked = True
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)
