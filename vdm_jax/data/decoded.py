"""Decoded files before they become records, and the process that decodes them.

A build gives files to processes that run this module, one file at a time each, so that
a damaged file, even one that crashes its decoder, affects nothing else. The frames go
into a part, a file that appears under its name only once it is complete; a build
resumes from the parts of one that was killed.

    frames      uint8 [T, H, W, C], raw
    facts       JSON: length, seconds, damage
    size        size of the facts, 8 bytes

Only what decoding needs is imported, so that processes start in a third of a second.
"""

import hashlib
import json
import os
import pathlib
import signal
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vdm_jax.data import decode
from vdm_jax.errors import UserError

# Far beyond what a video needs; only damaged files exceed it.
_MEMORY = 8 << 30  # Bytes of address space of a process.
MOST = 64 << 30  # Bytes of frames of a video.
_SIZE = struct.Struct("<Q")


class Job(NamedTuple):
  """A video to be decoded.

  Attributes:
    name: name of the video, for the user.
    source: a video, a folder of pictures, or the pictures of one video.
    options: options of `decode.decode` (`decode.decode_pictures` for pictures), and
      `max_frames` (where to stop; 0: no limit) and `partial` (whether to keep the
      frames before damage).
  """

  name: str
  source: str | Sequence[str]
  options: dict[str, Any]

  def key(self) -> str:
    """Returns a hash that changes if the files or the options do."""
    paths = [self.source] if isinstance(self.source, str) else list(self.source)
    if isinstance(self.source, str) and os.path.isdir(self.source):
      paths += sorted(entry.path for entry in os.scandir(self.source))
    facts = [self.name, self.options, *map(_facts_of_file, paths)]
    # JSON escapes names that are not UTF-8.
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Part(NamedTuple):
  """A file that was decoded, or that cannot be decoded.

  Attributes:
    path: path of the part; "" if the decoder crashed.
    length: number of frames.
    seconds: time of the last frame; 0 if unknown.
    damage: why there are no more frames; "" if the video is complete.
  """

  path: str
  length: int
  seconds: float
  damage: str

  @property
  def fps(self) -> float:
    """Returns frames per second, 0 if unknown."""
    return (self.length - 1) / self.seconds if self.seconds else 0.0

  def frames(self, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yields the frames, each uint8 of `shape`."""
    with open(self.path, "rb") as file:
      for _ in range(self.length):
        yield np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)


def find(path: str) -> Part | None:
  """Finds the part at `path`; None unless it exists and is complete."""
  try:
    with open(path, "rb") as file:
      file.seek(-_SIZE.size, os.SEEK_END)
      end = file.tell()
      (size,) = _SIZE.unpack(file.read())
      file.seek(end - size)
      facts = json.loads(file.read(size))
  except (OSError, ValueError):
    return None
  whole = end - size == facts.pop("bytes")
  return Part(path, **facts) if whole else None


def write(
  path: str, job: Job, threads: int, beat: Callable[[], None] = lambda: None
) -> None:
  """Decodes a video into the part `path`.

  Args:
    path: path of the part.
    job: the video to decode.
    threads: threads that decode a video; 0: as many as there are cores.
    beat: called at every frame.

  Raises:
    OSError: the part cannot be written.
    UserError: an extra is missing.
  """
  scratch = f"{path}.{os.getpid()}.tmp"
  length, seconds, damage, written = 0, 0.0, "", 0
  options = dict(job.options)
  most, partial = options.pop("max_frames", 0), options.pop("partial", False)
  key = job.key()
  try:
    with open(scratch, "wb") as file:
      frames = _decode(job.source, options, threads)
      while True:
        try:
          time, frame = next(frames, (0.0, None))
        except decode.Unreadable as error:
          damage = str(error)
          if isinstance(job.source, str):
            damage = damage.removeprefix(f"{job.source}: ")
          break
        if frame is None or (most and length == most):
          break
        if written + frame.nbytes > MOST:
          damage = f"more than {MOST >> 30} GiB of frames; cut it with `max_frames`"
          break
        file.write(frame.tobytes())
        length, seconds, written = length + 1, time, written + frame.nbytes
        beat()
      if not damage and job.key() != key:
        damage, partial = "it changed while it was read", False
      if damage and not partial:
        file.seek(0)
        file.truncate()
        length, seconds, written = 0, 0.0, 0
      timed = isinstance(job.source, str) and not os.path.isdir(job.source)
      facts = dict(length=length, seconds=seconds if timed else 0.0, damage=damage)
      text = json.dumps(facts | {"bytes": written}).encode()
      file.write(text + _SIZE.pack(len(text)))
    os.replace(scratch, path)
  finally:
    if os.path.exists(scratch):
      os.remove(scratch)


def _decode(source, options, threads) -> Iterator[tuple[float, np.ndarray]]:
  if isinstance(source, str):
    return decode.decode(source, threads=threads, **options)
  frames = decode.decode_pictures(map(pathlib.Path, source), **options)
  return ((float(number), frame) for number, frame in enumerate(frames))


def _facts_of_file(path: str) -> list:
  try:
    stat = os.stat(path)
  except OSError:  # A broken link, for instance.
    return [path]
  return [path, stat.st_size, stat.st_mtime_ns]


def main() -> None:
  """Serves requests to decode, one line of JSON each, until standard input ends.

  Every line {"path", "job", "threads"} is answered by one of {"done": true},
  {"mistake": text} and {"storage": text}, and meanwhile now and then by {"beat": true}.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The build handles Ctrl-C.
  _limit_memory()
  # What decoders print must not mix with the answers.
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)

  def answer(**facts):
    answers.write(json.dumps(facts) + "\n")

  answer(ready=True)
  for line in sys.stdin:
    task = json.loads(line)
    try:
      write(task["path"], Job(*task["job"]), task["threads"], _Beat(answer))
      answer(done=True)
    except UserError as error:
      answer(mistake=str(error))
    except OSError as error:
      answer(storage=error.strerror or str(error))


class _Beat:
  """Reports that decoding proceeds, at most once a second."""

  def __init__(self, answer):
    self._answer, self._last = answer, 0.0

  def __call__(self):
    now = os.times().elapsed
    if now - self._last > 1:
      self._last = now
      self._answer(beat=True)


def _limit_memory() -> None:
  try:
    import resource
  except ImportError:  # Not on Windows.
    return
  _, most = resource.getrlimit(resource.RLIMIT_AS)
  least = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
  resource.setrlimit(resource.RLIMIT_AS, (least, most))


if __name__ == "__main__":
  main()
