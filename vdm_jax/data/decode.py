"""Decoding of video files, GIFs and folders of pictures to frames with times.

Frames are upright (the container's rotation and mirroring are applied), with square
pixels and standard dynamic range, in RGB or grey. A file that ends early or is damaged
raises `Unreadable` instead of giving fewer frames; as decoders conceal this, there are
several checks for it.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator

import numpy as np
import PIL.Image
import PIL.ImageOps
from etils import epath

from vdm_jax.data import container, gif, reading
from vdm_jax.data.reading import Unreadable
from vdm_jax.errors import UserError

VIDEO_SUFFIXES = (
  ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ogv", ".avi", ".wmv", ".flv",
  ".mpg", ".mpeg", ".ts", ".mts", ".gif",
)  # fmt: skip
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_EPSILON = 1e-6  # Seconds; far below a frame, above the rounding of time stamps.
# Seconds between frames above which a time stamp is wrong, rather than a still image.
_LONGEST_GAP = 60.0
_LONGEST_STEP_BACK = 1.0


def decode(
  path: epath.PathLike,
  *,
  size: tuple[int, int] | None = None,
  fps: float = 0.0,
  channels: int = 3,
  crop: bool = True,
  threads: int = 0,
) -> Iterator[tuple[float, np.ndarray]]:
  """Decodes a video.

  Args:
    path: a file with one of `VIDEO_SUFFIXES`, or a folder of pictures (in natural
      order: 2 before 10).
    size: (H, W) of the frames: the largest centred part of that aspect is cut out and
      shrunk by area averaging (or enlarged by cubic interpolation). None keeps the
      video's own, in square pixels.
    fps: frames per second; frame k is what a viewer sees k / fps seconds after the
      first, whatever the video's own rate, variable or not. 0 keeps every coded frame
      once. Pictures have no times, so all are kept.
    channels: 3 for RGB, 1 for grey.
    crop: whether to crop; False stretches the whole picture to `size`.
    threads: threads that decode a video; 0: as many as there are cores.

  Yields:
    (seconds since the first frame, uint8 [H, W, channels]); pictures count seconds.

  Raises:
    Unreadable: the file does not exist, is damaged, ends early, holds no video, or its
      time stamps jump (by a minute, or back by a second); or numbered pictures are
      missing.
    UserError: the `video` extra is missing, or an argument is not as described.
  """
  if channels not in (1, 3):
    raise UserError(f"channels: expected 1 or 3, found {channels}")
  if not 0 <= fps < math.inf:
    raise UserError(f"`fps={fps:g}`: expected frames per second, 0 or more")
  path = epath.Path(path)
  if path.is_dir():
    paths = [entry for entry in path.iterdir() if is_picture(entry)]
    if not paths:
      raise Unreadable(f"{path}: expected pictures (png, jpg), found none")
    if lost := missing_numbers([entry.name for entry in paths]):
      numbers = ", ".join(map(str, lost[:5])) + ", ..." * (len(lost) > 5)
      raise Unreadable(f"{path}: missing pictures, by number: {numbers}")
    shown = ((float(i), image) for i, image in enumerate(_pictures(paths)))
  else:
    if not path.exists():  # Or it is a broken link.
      raise Unreadable(f"{path}: no such video")
    if not os.path.isfile(path):  # Opening a pipe would block.
      raise Unreadable(f"{path}: expected a file, found a pipe or a device")
    frames = gif.frames(path) if is_gif(path) else container.frames(path, threads)
    frames = _steady(frames, path)
    shown = _resample(frames, fps) if fps else _as_coded(frames)
  with reading.guarded(path):
    for time, image in shown:
      yield time, _fit(image, size, channels, crop)


def decode_pictures(
  paths: Iterable[epath.Path],
  *,
  size: tuple[int, int] | None = None,
  channels: int = 3,
) -> Iterator[np.ndarray]:
  """Decodes pictures, in the natural order of their names.

  Args:
    paths: the files.
    size: see `decode`.
    channels: 3 for RGB, 1 for grey.

  Yields:
    uint8 [H, W, channels].

  Raises:
    Unreadable: a picture is damaged.
  """
  for image in _pictures(paths):
    yield _fit(image, size, channels)


def is_picture(path: epath.Path) -> bool:
  return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def is_gif(path: epath.Path) -> bool:
  return path.suffix.lower() == ".gif"


def missing_numbers(names: list[str]) -> list[int]:
  """Finds the numbers missing from a series of file names such as frame_0001.png.

  Only a clear series counts: names that differ in their last number only, most of them
  one step apart, the others whole steps. (Times, for instance, are not a series.)
  """
  parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names]
  if not all(parts) or len({(part[1], part[3]) for part in parts}) > 1:
    return []
  numbers = sorted(int(part[2]) for part in parts)
  steps = np.diff(numbers)
  step = int(min(steps, default=0))
  if step < 1 or (steps % step).any() or (steps == step).mean() < 0.5:
    return []
  lost = range(numbers[0], numbers[-1], step)
  return sorted(set(lost) - set(numbers)) if len(lost) < 2 * len(numbers) else []


def _steady(
  frames: Iterator[reading.Frame], path: epath.Path
) -> Iterator[reading.Frame]:
  """Yields the same frames; raises `Unreadable` if their times jump."""
  previous = None
  for number, frame in enumerate(frames):
    step = frame.time - (frame.time if previous is None else previous)
    if not -_LONGEST_STEP_BACK <= step <= _LONGEST_GAP:
      raise Unreadable(
        f"{path}: frame {number} is {step:+.1f} seconds from the one before, expected "
        f"-{_LONGEST_STEP_BACK:g} to {_LONGEST_GAP:g}"
      )
    previous = frame.time
    yield frame


def _as_coded(frames: Iterator[reading.Frame]):
  start = None
  for frame in frames:
    start = frame.time if start is None else start
    yield frame.time - start, frame.image


def _resample(frames: Iterator[reading.Frame], fps: float):
  """Yields the frames that are shown at the times k / fps."""
  previous, k = None, 0
  for frame in frames:
    if previous is None:
      start = frame.time
    while previous and start + k / fps < frame.time - _EPSILON:
      yield k / fps, previous.image
      k += 1
    previous = frame
  end = previous.time + previous.duration
  while start + k / fps < end - _EPSILON:
    yield k / fps, previous.image
    k += 1


def _pictures(paths: Iterable[epath.Path]):
  for path in sorted(paths, key=_natural):
    with reading.guarded(path), path.open("rb") as file, PIL.Image.open(file) as image:
      reading.check_size(path, image.width, image.height)
      upright = reading.rgb(PIL.ImageOps.exif_transpose(image))
    yield upright, 1.0


def _natural(path: epath.Path) -> list:
  parts = re.split(r"(\d+)", path.name)
  return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _fit(
  source, size: tuple[int, int] | None, channels: int, crop: bool = True
) -> np.ndarray:
  """Fits the centre of a picture, or all of it, to `size`: uint8 [H, W, channels]."""
  image, pixel_aspect = source
  if size is None and abs(pixel_aspect - 1) > 1e-3:  # The larger side is kept.
    taller, wider = max(1, 1 / pixel_aspect), max(1, pixel_aspect)
    size, crop = (round(image.height * taller), round(image.width * wider)), False
  if size is not None:
    height, width = size
    # The largest centred box of the target's aspect, in possibly oblong pixels.
    box_width = min(image.width, image.height * width / height / pixel_aspect)
    box_height = box_width * pixel_aspect * height / width
    if not crop:
      box_width, box_height = image.size
    left = max((image.width - box_width) / 2, 0)
    top = max((image.height - box_height) / 2, 0)
    right = min(left + box_width, image.width)  # Pillow rejects rounding errors.
    box = (left, top, right, min(top + box_height, image.height))
    shrinks = box_width >= width and box_height >= height
    filters = PIL.Image.Resampling
    filter_ = filters.BOX if shrinks else filters.BICUBIC
    image = image.resize((width, height), filter_, box=box)
  array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
  return array.reshape(*array.shape[:2], channels)
