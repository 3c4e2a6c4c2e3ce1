"""SIGTERM and SIGINT: noted, so that a run can save before it ends."""

import os
import signal

import jax


class Terminate:
  """Notes SIGTERM and SIGINT instead of dying, so that the run can save.

  With several processes SIGTERM stays with jax.distributed, whose handler tells all of
  them, so that they stop after the same step; a SIGINT is passed on to it.

  Attributes:
    asked: a signal came.
  """

  def __init__(self):
    self.asked = False
    self._old = {}

  def __enter__(self):
    several = jax.process_count() > 1
    for number in (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM):
      try:
        self._old[number] = signal.signal(number, self._note)
      except ValueError:  # Not the main thread: the caller handles signals.
        break
    return self

  def __exit__(self, *exc):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def _note(self, number, frame):
    del frame
    if self.asked and number == signal.SIGINT:
      raise KeyboardInterrupt  # Asked twice: the person means it.
    self.asked = True
    if jax.process_count() > 1:
      os.kill(os.getpid(), signal.SIGTERM)
