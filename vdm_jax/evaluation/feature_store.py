"""Features of a source's clips, kept on disk as they are made.

    FOLDER/KEY/about.json     what they are of: source, windows, network
    FOLDER/KEY/00000000.npy   features of some clips, from that number on

A job that is stopped goes on behind the last file; another comparison with the same
source, of however many of its videos, reads them. One clip at a time is in memory, and
a batch of the network.
"""

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from etils import epath

from vdm_jax.evaluation.clip_sources import Source
from vdm_jax.metrics.features import Extractor

_CLIPS = 32  # Of a file.


def features(
  source: Source,
  window: Callable[[int, np.ndarray], np.ndarray],
  extractor: Extractor,
  folder: epath.PathLike,
  about: dict[str, Any],
  *,
  progress: bool = True,
) -> np.ndarray:
  """Features float32 [N, D] of all clips of a source.

  Args:
    source: of videos.
    window: cuts the clip out of the video of a number.
    extractor: the network.
    folder: where they are kept.
    about: what `window` depends on, JSON-able.
    progress: show a progress bar.

  Raises:
    UserError: of the source, the window or the network.
  """
  described = source.describe()
  del described["count"]  # Where it matters to the videos, their identity has it.
  about = {
    "source": described,
    "window": about,
    "extractor": extractor.describe(),
  }
  text = json.dumps(about, sort_keys=True)
  path = epath.Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:16]
  path.mkdir(parents=True, exist_ok=True)
  (path / "about.json").write_text(json.dumps(about, indent=2) + "\n")
  found = []
  with tqdm.tqdm(
    total=source.count,
    desc=f"features of {source.name}",
    unit="clip",
    disable=None if progress else True,
  ) as bar:
    for first in range(0, source.count, _CLIPS):
      numbers = range(first, min(first + _CLIPS, source.count))
      file = path / f"{first:08d}.npy"
      kept = _read(file)
      if len(kept) < len(numbers):
        kept = extractor(window(n, source.read(n)) for n in numbers)
        _write(file, kept)
      found.append(kept[: len(numbers)])
      bar.update(len(numbers))
  return np.concatenate(found)


def _write(file: epath.Path, features: np.ndarray) -> None:
  temporary = file.with_name(f".{file.name}.{os.getpid()}")
  with temporary.open("wb") as stream:
    np.save(stream, features)
  temporary.replace(file)


def _read(file: epath.Path) -> np.ndarray:
  """The features of a file; none if there is no such file."""
  if not file.exists():
    return np.zeros((0, 0), np.float32)
  with file.open("rb") as stream:
    return np.load(stream)
