"""Writes samples to disk: lossless frames, videos, a contact sheet and a record."""

import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import atomic
from vdm_jax.data import sheet, video
from vdm_jax.errors import UserError
from vdm_jax.pixels import to_uint8

UNFINISHED = "unfinished"  # Folder of a job's finished stages, in that of its samples.


def tile(videos: np.ndarray, gap: int = 1) -> np.ndarray:
  """Tiles videos [N, T, H, W, C] into one video, as square as possible.

  Returns:
    [T, rows * (H + gap) + gap, columns * (W + gap) + gap, C] of the same dtype.
  """
  n, t, h, w, c = videos.shape
  columns = math.ceil(math.sqrt(n))
  rows = math.ceil(n / columns)
  height, width = rows * (h + gap) + gap, columns * (w + gap) + gap
  out = np.full((t, height, width, c), 127, videos.dtype)
  for i, clip in enumerate(videos):
    top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
    out[:, top : top + h, left : left + w] = clip
  return out


def save_overview(
  folder: epath.PathLike,
  name: str,
  videos: np.ndarray,
  *,
  captions: Sequence[str] | None = None,
  borders: Any = None,
  fps: float = 8.0,
) -> epath.Path:
  """Writes NAME.gif (all videos tiled) and NAME.png (frame by frame).

  Args:
    folder: folder, created if missing.
    name: name of the files, without suffix.
    videos: uint8 [N, T, H, W, C].
    captions: caption of each video, for the sheet.
    borders: see `sheet.contact_sheet`.
    fps: frames per second of the GIF.

  Returns:
    The path of the GIF.
  """
  folder = epath.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  sheet.write_contact_sheet(
    folder / f"{name}.png", videos, captions=captions, borders=borders
  )
  grid = tile(videos)
  scale = video.visible_scale(*videos.shape[2:4])
  video.write_gif(folder / f"{name}.gif", grid, fps=fps, scale=scale)
  return folder / f"{name}.gif"


def save(
  out: epath.PathLike,
  videos: np.ndarray,
  record: Mapping[str, Any],
  *,
  captions: Sequence[str] | None = None,
  observed: np.ndarray | None = None,
  fps: float = 8.0,
  films: bool = True,
) -> None:
  """Writes a folder of samples.

  `videos.npz` holds the lossless frames (uint8 [N, T, H, W, C] under `videos`) and
  `films/` a GIF of each video and, with the extra `video`, an MP4; `sheet.png` and
  `sheet.gif` show all of them, and `record.json` describes how they were made. The
  stages of the job in `unfinished/`, where `Model.sample` kept them, are then removed.

  Args:
    out: folder; must not hold samples already.
    videos: float [N, T, H, W, C] in [-1, 1].
    record: JSON-serialisable; written last, so that a folder that has it is complete.
    captions: caption of each video.
    observed: bool [T], frames that were given; framed in colour on the sheet.
    fps: frames per second of the videos.
    films: whether to write `films/`.

  Raises:
    UserError: `out` holds samples already.
  """
  out = epath.Path(out)
  check_free(out)
  out.mkdir(parents=True, exist_ok=True)
  pixels = to_uint8(videos)
  with (out / "videos.npz").open("wb") as file:
    np.savez_compressed(file, videos=pixels)
  borders = None
  if observed is not None and observed.any():
    row = [sheet.OBSERVED if seen else None for seen in observed]
    borders = [row] * len(pixels)
  save_overview(out, "sheet", pixels, captions=captions, borders=borders, fps=fps)
  if films:
    _write_films(out / "films", pixels, fps)
  atomic.write(out / "record.json", json.dumps(record, indent=2) + "\n")
  # Not before everything is on disk: until then the job resumes from it.
  (out / UNFINISHED).rmtree(missing_ok=True)


def _write_films(folder, pixels, fps):
  folder.mkdir(exist_ok=True)
  scale = video.visible_scale(*pixels.shape[2:4])
  # GIFs need no extra, so hours of sampling are not lost for want of one.
  encodes = importlib.util.find_spec("av") is not None
  for i, clip in enumerate(pixels):
    video.write_gif(folder / f"{i:04d}.gif", clip, fps=fps, scale=scale)
    if encodes:
      video.write_mp4(folder / f"{i:04d}.mp4", clip, fps=fps, scale=scale)
  if not encodes:
    print("MP4 files are left out: they need vdm_jax[video]", file=sys.stderr)


def describe(model: Any, **facts: Any) -> dict[str, Any]:
  """Makes the record of samples: the model that made them, and the caller's facts."""
  info = model.info
  return {
    "workdir": info["workdir"],
    "checkpoint_step": info["step"],
    "ema": info["ema"],
    **facts,
    "config": info["config"],
  }


def as_written(record: Mapping[str, Any]) -> dict[str, Any]:
  """Converts a record to what `read_record` would return."""
  return json.loads(json.dumps(record))


def is_complete(folder: epath.PathLike) -> bool:
  """Returns whether a folder holds everything that `save` writes."""
  return (epath.Path(folder) / "record.json").exists()


def read_record(folder: epath.PathLike) -> dict[str, Any]:
  """Reads the record of a complete folder of samples."""
  return json.loads((epath.Path(folder) / "record.json").read_text())


def read(folder: epath.PathLike) -> np.ndarray:
  """Reads the videos, uint8 [N, T, H, W, C], of a folder of samples."""
  with (epath.Path(folder) / "videos.npz").open("rb") as file, np.load(file) as found:
    return found["videos"]


def check_free(out: epath.PathLike) -> None:
  """Raises UserError if the folder holds samples already."""
  if is_complete(out):
    raise UserError(f"`out={out}`: holds samples already; choose another folder")
