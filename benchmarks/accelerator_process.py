"""Runs the rows of `benchmarks/accelerator.py`: a process for each, time, batch."""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks import accelerator_row

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Nothing is begun that has less.
LEAST = 15.0


class Clock:
  """How much time is left."""

  def __init__(self, seconds: float):
    self.end = time.time() + seconds

  def left(self) -> float:
    return self.end - time.time()


def child(spec: dict, clock: Clock, environment: dict) -> dict:
  """Runs `accelerator_row` on a specification, until the time is up.

  Returns:
    What it emitted, `parts` by name; `error` for a process that failed, with `log`, the
    end of its stderr.
  """
  found = {"parts": {}, "left_out": []}
  command = [sys.executable, "-m", "benchmarks.accelerator_row", json.dumps(spec)]
  with tempfile.TemporaryFile("w+") as log:
    process = subprocess.Popen(
      command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment
    )
    timer = threading.Timer(max(1.0, clock.left()), process.kill)
    timer.start()
    try:
      for line in process.stdout:
        if line.startswith(accelerator_row.MARK):
          _take(found, json.loads(line[len(accelerator_row.MARK) :]))
      process.wait()
    finally:
      timer.cancel()
      process.kill()  # Where this was interrupted; else it is over.
      process.wait()
    if process.returncode or "error" in found:
      log.seek(0)
      found["log"] = log.read()[-4000:]
  if process.returncode and clock.left() <= 0:
    found["stopped"] = True
  elif process.returncode:
    lines = found["log"].strip().splitlines() or ["no message"]
    found.setdefault("error", f"exit status {process.returncode}: {lines[-1][:300]}")
  return found


def _take(found: dict, said: dict) -> None:
  """Adds a line of a row's process to what is known of the row."""
  if "part" in said:
    found["parts"][said.pop("part")] = said
  elif "left_out" in said:
    found["left_out"] += said["left_out"]
  else:
    found.update(said)


def with_smaller_batches(run, batch: int, clock: Clock) -> dict:
  """Runs a row, with half of the batch as long as memory is not enough.

  Args:
    run: batch of a device -> what was found, with `out_of_memory` where it was not.
    batch: to begin with.
    clock: no other is begun when it is over.

  Returns:
    What the last one found, with `notes` and `batch_per_device`; `error` where not even
    one video fits.
  """
  notes = []
  while True:
    found = run(batch)
    found.update(batch_per_device=batch, notes=notes)
    reason = found.get("out_of_memory")
    if reason is None:
      return found
    if batch == 1:
      found["error"] = f"a batch of 1 a device is too much: {reason}"
      return found
    notes.append(f"batch {batch} a device does not fit, {batch // 2} is tried")
    batch //= 2
    if clock.left() < LEAST:
      found["stopped"] = True
      return found


def empty(**found) -> dict:
  """Returns the entry of a side that was not measured, with the fields given."""
  return {"parts": {}, "left_out": [], "notes": [], **found}
