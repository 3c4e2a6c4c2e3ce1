"""The folder of a long job, from which it resumes.

It holds a description of the job and one file for each finished part. A job that is
killed loses the part it was working on, never a finished one.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from vdm_jax import atomic
from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint

_DESCRIPTION = "job.json"


class Unfinished:
  """The finished parts of a job, in a folder of their own."""

  def __init__(self, folder: epath.PathLike, description: Mapping[str, Any]):
    """Opens the folder, or makes it.

    Args:
      folder: folder of this job alone.
      description: everything that the result depends on, JSON-serialisable.

    Raises:
      UserError: the folder holds the parts of a job with another description.
    """
    self._folder = epath.Path(folder)
    path = self._folder / _DESCRIPTION
    description = json.loads(json.dumps(description, default=str))
    if path.exists():
      found = checkpoint.differences(json.loads(path.read_text()), description)
      if found:
        raise UserError(
          f"{folder}: holds an unfinished job with other settings ({'; '.join(found)})."
          " Run the same command again to resume it, or remove the folder"
        )
    else:
      self._folder.mkdir(parents=True, exist_ok=True)
      self.write(_DESCRIPTION, json.dumps(description, indent=2).encode())

  def read(self, name: str) -> bytes | None:
    """Returns the content of a part; None if it is not finished."""
    path = self._folder / name
    return path.read_bytes() if path.exists() else None

  def write(self, name: str, content: bytes) -> None:
    """Keeps a part: all of it is on disk, or nothing is."""
    atomic.write(self._folder / name, content)

  def drop(self, name: str) -> None:
    """Removes a part, if it is there."""
    (self._folder / name).unlink(missing_ok=True)
