"""Processes that decode files for a build, and the handling of crashes and stalls.

A file that crashes or stalls a decoder is reported as unreadable, and a new process
replaces the lost one.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection

from etils import epath

from vdm_jax.data import decoded, shards
from vdm_jax.errors import UserError

STALL = 120.0  # Seconds without a frame after which a file is skipped.


def cores() -> int:
  """Counts the cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def run(
  jobs: Sequence[decoded.Job], folder: epath.Path, count: int
) -> Iterator[tuple[decoded.Job, str, decoded.Part]]:
  """Decodes videos in several processes.

  Args:
    jobs: the videos.
    folder: folder of the parts; existing ones are used as they are.
    count: number of files decoded at a time; 0: as many as there are cores.

  Yields:
    (job, its key, its part), in the order of the jobs. Only a few are decoded ahead, so
    that neither memory nor disk use grows with their number.

  Raises:
    StorageError: a part cannot be written.
    UserError: an extra is missing, or the number is negative.
  """
  if count < 0:
    raise UserError(f"`num_workers={count}`: expected >= 0")
  if not jobs:
    return
  count = min(count or cores(), len(jobs))
  ahead = 4 * count
  # Threads within a file are worthwhile only if there are fewer files than cores.
  threads = max(1, cores() // len(jobs))
  environment = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    "OPENBLAS_NUM_THREADS": "1",
  }
  keys: dict[int, str] = {}
  found: dict[int, decoded.Part] = {}
  given = due = 0
  with contextlib.ExitStack() as stack:
    workers = [stack.enter_context(_Worker(environment)) for _ in range(count)]
    while due < len(jobs):
      for worker in workers:
        while worker.number is None and given < min(len(jobs), due + ahead):
          keys[given] = jobs[given].key()
          path = os.fspath(folder / keys[given])
          if (part := decoded.find(path)) is not None:
            found[given] = part
          else:
            worker.give(given, path, jobs[given], threads)
          given += 1
      if due in found:
        yield jobs[due], keys.pop(due), found.pop(due)
        due += 1
        continue
      ready = connection.wait([worker.output for worker in workers], timeout=1)
      for worker in workers:
        if worker.number is None and worker.output not in ready:
          continue
        number = worker.number
        if (part := worker.result(worker.output in ready)) is not None:
          found[number] = part


class _Worker:
  """A process that decodes, with its current file."""

  def __init__(self, environment: dict[str, str]):
    self._environment = environment
    self.number: int | None = None
    self._path = ""
    self._start()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._stop()

  def _start(self) -> None:
    self._errors = tempfile.TemporaryFile()
    self._process = subprocess.Popen(
      [sys.executable, "-m", "vdm_jax.data.decoded"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      env=self._environment,
    )
    self.output = self._process.stdout
    self._ready, self._rest = False, b""

  def _stop(self) -> None:
    self._process.kill()
    self._process.wait()
    for stream in (self._process.stdin, self._process.stdout, self._errors):
      with contextlib.suppress(OSError):
        stream.close()

  def give(self, number: int, path: str, job: decoded.Job, threads: int) -> None:
    """Starts to decode a video into the part `path`."""
    self.number, self._path, self._moved = number, path, time.monotonic()
    line = json.dumps({"path": path, "job": job, "threads": threads}) + "\n"
    with contextlib.suppress(BrokenPipeError):  # `result` reports the reason.
      self._process.stdin.write(line.encode())
      self._process.stdin.flush()

  def result(self, readable: bool) -> decoded.Part | None:
    """Returns the part if it is finished, which frees the worker.

    Args:
      readable: whether the process has written or ended.
    """
    if readable:
      text = os.read(self.output.fileno(), 1 << 16)
      if not text:
        return self._lost()
      *lines, self._rest = (self._rest + text).split(b"\n")
      for line in lines:
        self._moved = time.monotonic()
        answer = json.loads(line)
        self._ready = True
        if "mistake" in answer:
          raise UserError(answer["mistake"])
        if "storage" in answer:
          raise shards.StorageError(f"{answer['storage']}: {self._path}")
        if "done" in answer:
          self.number = None
          return decoded.find(self._path)
    elif time.monotonic() - self._moved > STALL:
      return self._replaced(f"no frame was decoded in {STALL:g} seconds: given up")
    return None

  def _lost(self) -> decoded.Part | None:
    code = self._process.wait()
    if not self._ready:
      self._errors.seek(0)
      lines = self._errors.read().decode(errors="replace").strip().splitlines()
      raise RuntimeError(f"a process that decodes did not start: {lines[-1:] or code}")
    if self.number is None:
      self._stop()
      self._start()
      return None
    how = f"signal {-code}" if code < 0 else f"status {code}"
    return self._replaced(f"the decoder crashed ({how})")

  def _replaced(self, damage: str) -> decoded.Part:
    """Replaces this process by a new one."""
    self._stop()
    with contextlib.suppress(OSError):
      os.remove(f"{self._path}.{self._process.pid}.tmp")
    self._start()
    self.number = None
    return decoded.Part("", 0, 0.0, damage)
