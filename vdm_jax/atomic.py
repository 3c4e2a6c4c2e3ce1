"""Files and folders that exist whole or not at all.

What is written goes to `.NAME.RANDOM.part` beside its place and is then renamed. A
reader sees the old content or the new one; a process that is killed leaves the old one.
"""

import contextlib
import uuid
from collections.abc import Iterator

from etils import epath


@contextlib.contextmanager
def aside(path: epath.PathLike) -> Iterator[epath.Path]:
  """Yields a path to write to, which takes the place of `path` at the end.

  If the body raises, `path` stays as it was and nothing is left beside it.

  Args:
    path: file, local or in a bucket, or local folder that does not exist or is empty;
      its parents are created.
  """
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Processes of several hosts may write the same file, and share their numbers.
  part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
  try:
    yield part
    if part.is_dir() and path.is_dir():
      path.rmdir()
    part.replace(path)
  except BaseException:
    if part.is_dir():
      part.rmtree(missing_ok=True)
    else:
      part.unlink(missing_ok=True)
    raise


def write(path: epath.PathLike, content: str | bytes) -> None:
  """Writes a file of bytes, or of text in UTF-8.

  Args:
    path: file, local or in a bucket; its parents are created.
    content: content of the file.
  """
  with aside(path) as part:
    part.write_bytes(content.encode() if isinstance(content, str) else content)
