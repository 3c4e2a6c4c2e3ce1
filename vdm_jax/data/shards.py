"""The files of a data set during its build: shards, their contents, and resuming.

A build writes into its own folder beside the final one and renames it at the end.
Records go into one shard after another; for every finished shard a journal lists its
videos and the number of source files that they came from. After a kill, finished shards
are kept if their source files are unchanged, and so are decoded parts (see `decoded`)
of later files.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import filelock
from absl import logging
from array_record.python import array_record_module
from etils import epath

LIMIT = 1 << 30  # Bytes of records after which a shard is closed.
_IDENTITY = "build.json"


class StorageError(OSError):
  """Raised if the data set cannot be written, for example to a full disk."""


@contextlib.contextmanager
def storing() -> Iterator[None]:
  """Converts exceptions of writing to `StorageError`."""
  try:
    yield
  except StorageError:
    raise
  except OSError as error:
    name = f": {os.fspath(error.filename)}" if error.filename else ""
    raise StorageError(f"{error.strerror or error}{name}") from error
  except RuntimeError as error:  # Raised by ArrayRecord.
    reason = re.search(r"failed: ([^;]+)", str(error))
    raise StorageError(reason[1] if reason else str(error)) from error


@contextlib.contextmanager
def locked(path: epath.Path) -> Iterator[None]:
  """Waits until no other process holds the lock file `path`, which is then removed.

  A process that dies releases its lock.
  """
  lock = filelock.FileLock(path)
  try:
    with storing():
      path.parent.mkdir(parents=True, exist_ok=True)
      lock.acquire(timeout=1)
  except StorageError as error:
    if not isinstance(error.__cause__, filelock.Timeout):
      raise
    logging.warning("waiting for another build of the same data set (%s)", path)
    lock.acquire()
  try:
    yield
  finally:
    path.unlink(missing_ok=True)  # A waiting process creates it anew.
    lock.release()


@contextlib.contextmanager
def under_way(folder: epath.Path, identity: dict[str, Any]) -> Iterator["Workspace"]:
  """Opens the workspace of a build; after a failure it keeps what can be resumed.

  Args:
    folder: see `Workspace`; in the end it holds only the data set.
    identity: see `Workspace`.
  """
  workspace = Workspace(folder, identity)
  try:
    yield workspace
    with storing():
      workspace.finish()
  except BaseException:
    if not workspace.resumes:
      folder.rmtree(missing_ok=True)
    raise


def replace(directory: epath.Path, new: epath.Path) -> None:
  """Moves `new` to `directory`, which is replaced if it exists."""
  with storing():
    old = directory.parent / f"incomplete.{directory.name}.old"
    old.rmtree(missing_ok=True)
    if directory.exists():
      directory.rename(old)
    new.rename(directory)
    old.rmtree(missing_ok=True)


def remove_empty(directory: epath.Path, until: epath.Path) -> None:
  """Removes `directory` and its parents below `until` while they are empty."""
  while directory != until and directory.is_dir() and not any(directory.iterdir()):
    directory.rmdir()
    directory = directory.parent


class Workspace:
  """The folder in which a data set is built."""

  def __init__(self, folder: epath.Path, identity: dict[str, Any]):
    """Opens the folder, or creates it.

    Args:
      folder: path of the folder.
      identity: JSON values; what was built with another identity is discarded.
    """
    self.folder = folder
    file = folder / _IDENTITY
    text = json.dumps(identity, sort_keys=True)
    with storing():
      known = file.exists() and file.read_text() == text
      if folder.exists() and not (known and self.resumes):
        folder.rmtree()
      self.parts.mkdir(parents=True, exist_ok=True)
      for path in self.parts.glob("*.tmp"):  # Left by killed workers.
        path.unlink()
      file.write_text(text)
    self._splits: dict[str, Split] = {}

  @property
  def parts(self) -> epath.Path:
    return self.folder / "parts"

  def split(self, name: str) -> "Split":
    """Returns the split called `name`."""
    if name not in self._splits:
      self._splits[name] = Split(self, name)
    return self._splits[name]

  def skipped(self) -> list[list[str]]:
    """Lists [name, reason] of all videos that were left out."""
    return [entry for split in self._splits.values() for entry in split.skipped]

  @property
  def resumes(self) -> bool:
    """Returns whether there is anything that another build can resume from."""
    parts = self.parts.iterdir() if self.parts.exists() else ()
    if any(path.suffix != ".tmp" for path in parts):
      return True
    journals = self.folder.glob("*.journal.json")
    return any(json.loads(path.read_text())["files"] for path in journals)

  def finish(self) -> None:
    """Removes everything that is not part of the data set."""
    self.parts.rmtree()
    for pattern in ("*.journal.json", "*.shard", "*.tmp", _IDENTITY):
      for path in self.folder.glob(pattern):
        path.unlink()


class Split:
  """The shards of one split, written in order.

  Attributes:
    lengths: number of records of every finished shard.
    size: bytes of all their records.
    rows: metadata of every video that is written.
    skipped: [name, reason] of every video that is left out.
  """

  def __init__(self, workspace: Workspace, name: str):
    self._folder, self._name = workspace.folder, name
    self.lengths: list[int] = []
    self.size = 0
    self.rows: list[list] = []
    self.skipped: list[list[str]] = []
    # Source files that were used, and their parts that still exist.
    self._files, self._digest = 0, hashlib.sha256()
    self._parts: list[tuple[int, epath.Path]] = []
    self._writer = None
    self._records = self._bytes = 0  # Counts of the open shard.
    self._first_row = self._first_skipped = 0  # Where the open shard begins.
    self._mark()
    self._last_files = 0

  def begin(self, keys: Iterable[str]) -> int:
    """Takes over the shards of an earlier build, and counts the files that they cover.

    Args:
      keys: keys of all files of the split, in order; read only as far as needed.
    """
    keys = iter(keys)
    while (entry := self._read_journal(len(self.lengths))) is not None:
      digest = self._digest.copy()
      for key in itertools.islice(keys, entry["files"] - self._files):
        digest.update(key.encode())
      if digest.hexdigest() != entry["digest"]:
        break  # The files differ.
      self._files, self._digest = entry["files"], digest
      self.lengths.append(entry["records"])
      self.size += entry["bytes"]
      self.rows += entry["rows"]
      self.skipped += entry["skipped"]
    for path in self._folder.glob(f"{self._name}-*.journal.json"):
      if path >= self._path(len(self.lengths), "journal.json"):
        path.unlink()
    self._first_row, self._first_skipped = len(self.rows), len(self.skipped)
    self._mark()
    return self._files

  def use(self, key: str, part: epath.Path) -> None:
    """Announces that what follows comes from the next file, decoded into `part`."""
    self._mark()
    self._parts.append((self._files, part))
    self._digest.update(key.encode())
    self._files += 1

  def skip(self, name: str, reason: str) -> None:
    """Records that a video is left out."""
    self.skipped.append([name, reason])

  def add(self, row: Callable[[], Sequence], records: Iterable[bytes]) -> None:
    """Writes a video.

    Args:
      row: returns the video's metadata, JSON values, once its records are consumed.
      records: records of the video.

    Raises:
      StorageError: the shard cannot be written.
    """
    # A shard ends between two files, so that a later build can resume there.
    if self._bytes >= LIMIT and (self._files > self._last_files or not self._files):
      self._close(*self._before)
    for record in records:
      with storing():
        if self._writer is None:
          # One record per group, so that a read decompresses only what it needs.
          self._writer = array_record_module.ArrayRecordWriter(
            os.fspath(self._path(len(self.lengths), "tmp")), "group_size:1"
          )
        self._writer.write(record)
      self._records += 1
      self._bytes += len(record)
    self.rows.append(list(row()))
    self._last_files = self._files

  def end(self) -> None:
    """Closes the last shard."""
    if self._writer is not None:
      self._mark()
      self._close(*self._before)

  def rename(self, names: Sequence[epath.Path]) -> None:
    """Gives the finished shards their final names."""
    for number, name in enumerate(names):
      self._path(number).replace(name)

  def _mark(self) -> None:
    """Notes the state before the next file."""
    self._before = (self._files, self._digest.hexdigest(), len(self.skipped))

  def _close(self, files: int, digest: str, skipped: int) -> None:
    entry = {
      "files": files,
      "digest": digest,
      "records": self._records,
      "bytes": self._bytes,
      "rows": self.rows[self._first_row :],
      "skipped": self.skipped[self._first_skipped : skipped],
    }
    with storing():
      self._store(len(self.lengths), entry)
    used = [part for place, part in self._parts if place < files]
    for part in used:
      part.unlink(missing_ok=True)
    self._parts = self._parts[len(used) :]
    self.lengths.append(self._records)
    self.size += self._bytes
    self._records = self._bytes = 0
    self._first_row, self._first_skipped = len(self.rows), skipped

  def _store(self, number: int, entry: dict[str, Any]) -> None:
    """Turns the open shard into a finished one."""
    self._writer.close()
    self._writer = None
    scratch = self._path(number, "tmp")
    with scratch.open("rb") as file:
      os.fsync(file.fileno())  # Else a crash of the machine could empty it.
    scratch.replace(self._path(number))
    scratch.write_text(json.dumps(entry))
    scratch.replace(self._path(number, "journal.json"))

  def _path(self, number: int, suffix: str = "shard") -> epath.Path:
    return self._folder / f"{self._name}-{number:05d}.{suffix}"

  def _read_journal(self, number: int) -> dict | None:
    """Reads the journal of an earlier build's shard of this number."""
    path = self._path(number, "journal.json")
    if not path.exists() or not self._path(number).exists():
      return None
    return json.loads(path.read_text())
