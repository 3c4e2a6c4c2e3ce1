"""Features of a source's clips, kept on disk as they are made.

    FOLDER/KEY/about.json     their source, windows and network
    FOLDER/KEY/00000000.npy   features of some clips, from that number on

A job that is stopped resumes after the last file, and other comparisons with the same
source, of any number of its videos, read the files. Only one clip and a batch of the
network are in memory.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tqdm
from etils import epath

from vdm_jax import atomic, processes
from vdm_jax.errors import UserError
from vdm_jax.evaluation.clip_sources import Source
from vdm_jax.metrics.features import Extractor

_CLIPS = 32  # Clips per file.


def features(
  source: Source,
  window: Callable[[int, np.ndarray], np.ndarray],
  extractor: Extractor,
  folder: epath.PathLike,
  about: dict[str, Any],
  *,
  progress: bool = True,
) -> np.ndarray:
  """Computes or reads the features, float32 [N, D], of all clips of a source.

  Several processes share the work by file; all must see the folder.

  Args:
    source: source of the videos.
    window: function that cuts the clip out of the video of a number.
    extractor: the network.
    folder: folder in which features are kept.
    about: everything that `window` depends on, JSON-serialisable.
    progress: whether to show a progress bar.

  Raises:
    UserError: raised by the source, the window or the network.
  """
  described = source.describe()
  del described["count"]  # If the videos depend on it, so does their identity.
  about = {
    "source": described,
    "window": about,
    "extractor": extractor.describe(),
  }
  text = json.dumps(about, sort_keys=True)
  path = epath.Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
  path.mkdir(parents=True, exist_ok=True)
  if processes.is_first():
    (path / "about.json").write_text(json.dumps(about, indent=2) + "\n")
  files = {
    path / f"{first:08d}.npy": range(first, min(first + _CLIPS, source.count))
    for first in range(0, source.count, _CLIPS)
  }
  mine = processes.share(list(files))
  with tqdm.tqdm(
    total=sum(len(files[file]) for file in mine),
    desc=f"features of {source.name}",
    unit="clip",
    disable=None if progress and processes.is_first() else True,
  ) as bar:
    for file in mine:
      if len(_read(file)) < len(files[file]):
        _write(file, extractor(window(n, source.read(n)) for n in files[file]))
      bar.update(len(files[file]))
  processes.wait(f"features {path.name}")
  found = []
  for file, numbers in files.items():
    kept = _read(file)[: len(numbers)]
    if len(kept) < len(numbers):
      raise UserError(
        f"`features={folder}`: process {jax.process_index()} does not see {file.name} "
        "of another one; expected a folder on a disk that all processes see"
      )
    found.append(kept)
  return np.concatenate(found)


def _write(file: epath.Path, features: np.ndarray) -> None:
  with atomic.aside(file) as part, part.open("wb") as stream:
    np.save(stream, features)


def _read(file: epath.Path) -> np.ndarray:
  """Reads the features of a file; none if there is no such file."""
  if not file.exists():
    return np.zeros((0, 0), np.float32)
  with file.open("rb") as stream:
    return np.load(stream)
