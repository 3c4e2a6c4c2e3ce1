"""Decoding: a video file, a GIF or a folder of pictures to frames with times.

Frames are upright (rotation and mirroring of the container honoured), square-pixel,
of an ordinary screen's range and RGB or grey. A file that ends early or is damaged
raises `Unreadable` rather than giving fewer frames: decoders conceal that, so it is
looked for in several places.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
from etils import epath

from vdm_jax.data import hdr
from vdm_jax.errors import UserError

VIDEO_SUFFIXES = (
  ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".ogv", ".avi", ".wmv", ".flv",
  ".mpg", ".mpeg", ".ts", ".mts", ".gif",
)  # fmt: skip
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_EPSILON = 1e-6  # Seconds; far below any frame, above the rounding of time stamps.
# Durations below 20 ms, or none, are shown as 100 ms by every browser.
_GIF_SHORTEST, _GIF_DURATION = 0.02, 0.1
# Between two frames: what lasts longer is a wrong time stamp rather than a still.
_LONGEST_GAP = 60.0
_LONGEST_STEP_BACK = 1.0
_MOST_PIXELS = 1 << 27  # Of a picture; a film of 16K has as many.


class Unreadable(UserError):
  """A video cannot be decoded to its end; says why."""


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
    size: (H, W) of the frames: the largest centred part of that aspect is cut out
      and shrunk by area averaging (or enlarged, cubic). None keeps the video's own, in
      square pixels.
    fps: frames per second; frame k is what a viewer would see k / fps seconds after
      the first, whatever the video's own rate, variable or not. 0 keeps every coded
      frame once. Pictures have no times: each is kept.
    channels: 3 RGB, 1 grey.
    crop: False keeps the whole picture and stretches it to `size`.
    threads: that decode a film; 0: as many as there are cores.

  Yields:
    (seconds since the first frame, uint8 [H, W, channels]); pictures count seconds.

  Raises:
    Unreadable: the file does not exist, is damaged, ends early, holds no video, or its
      time stamps leap (by a minute, or back by a second); or numbered pictures are
      missing.
    UserError: the `video` extra is missing.
  """
  if channels not in (1, 3):
    raise UserError(f"channels: expected 1 or 3, found {channels}")
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
    if not path.exists():  # Or a link that leads nowhere.
      raise Unreadable(f"{path}: no such video")
    if not os.path.isfile(path):  # Opening a pipe would wait for somebody to write.
      raise Unreadable(f"{path}: expected a file, found a pipe or a device")
    frames = _gif(path) if is_gif(path) else _container(path, threads)
    frames = _steady(frames, path)
    shown = _resample(frames, fps) if fps else _as_coded(frames)
  with _reading(path):
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
    paths: files.
    size: see `decode`.
    channels: 3 RGB, 1 grey.

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
  """Numbers left out in a series of file names such as frame_0001.png.

  Only what is clearly a series counts: names that differ in their last number alone,
  most of them one step apart, the others whole steps. (Times, say, are none.)
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


def import_av():
  """PyAV, an extra."""
  try:
    import av
  except ImportError as error:
    raise UserError(
      "video files need the `video` extra: pip install 'vdm_jax[video]'"
    ) from error
  return av


class _Frame:
  """A decoded frame: when it is shown, for how long, and (at need) its pixels."""

  def __init__(self, time: float, duration: float, pixels, aspect: float = 1.0):
    self.time, self.duration = time, duration
    self._pixels, self._aspect = pixels, aspect

  @functools.cached_property
  def image(self) -> tuple[PIL.Image.Image, float]:
    """(RGB picture, width of a pixel over its height)."""
    return self._pixels(), self._aspect


def _steady(frames: Iterator[_Frame], path: epath.Path) -> Iterator[_Frame]:
  """The same frames; `Unreadable` where their times leap."""
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


def _as_coded(frames: Iterator[_Frame]):
  start = None
  for frame in frames:
    start = frame.time if start is None else start
    yield frame.time - start, frame.image


def _resample(frames: Iterator[_Frame], fps: float):
  """What is shown at the times k / fps."""
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


def _gif(path: epath.Path) -> Iterator[_Frame]:
  with _reading(path), path.open("rb") as file:
    promised, whole = _gif_images(file)
    if not whole:
      raise Unreadable(f"{path}: truncated, {promised} whole frames and no end")
    file.seek(0)
    with PIL.Image.open(file) as gif:
      _check_size(path, gif.width, gif.height)
      time = 0.0
      for number in range(max(promised, 1)):
        gif.seek(number)
        duration = gif.info.get("duration", 0) / 1000
        duration = duration if duration >= _GIF_SHORTEST else _GIF_DURATION
        # Converted now: the next seek draws over it.
        image = _rgb(gif)
        yield _Frame(time, duration, lambda image=image: image)
        time += duration


def _gif_images(file) -> tuple[int, bool]:
  """How many whole images a GIF holds, and whether its end is there.

  Decoders show what there is of a file that was cut: only its blocks tell.
  """

  def color_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0

  def skip_blocks() -> bool:
    while size := file.read(1):
      if size == b"\0":
        return True
      if len(file.read(size[0])) < size[0]:
        break
    return False

  count = 0
  screen = file.read(13)
  if not screen.startswith(b"GIF"):
    raise ValueError("no GIF")
  if len(screen) < 13:
    return count, False
  file.read(color_table(screen[10]))
  while kind := file.read(1):
    if kind == b";":
      return count, True
    if kind == b"!":
      file.read(1)
    elif kind == b",":
      place = file.read(9)
      if len(place) < 9:
        break
      file.read(color_table(place[8]) + 1)
    else:
      continue  # As viewers do: on to the next block.
    if not skip_blocks():
      break
    count += kind == b","
  return count, False


def _pictures(paths: Iterable[epath.Path]):
  for path in sorted(paths, key=_natural):
    with _reading(path), path.open("rb") as file, PIL.Image.open(file) as image:
      _check_size(path, image.width, image.height)
      upright = _rgb(PIL.ImageOps.exif_transpose(image))
    yield upright, 1.0


def _check_size(path: epath.Path, width: int, height: int) -> None:
  """Raises `Unreadable` for a picture that only a damaged header can claim to be."""
  if width * height > _MOST_PIXELS:
    raise Unreadable(
      f"{path}: {width}x{height} pixels, expected {_MOST_PIXELS:,} at most"
    )


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
  """A picture of any mode in RGB: 16 bits are scaled, what is transparent is black."""
  if image.mode.startswith("I"):
    eight = np.asarray(image).astype(np.int64).clip(0, 65535) / 257
    return PIL.Image.fromarray(np.rint(eight).astype(np.uint8)).convert("RGB")
  if image.has_transparency_data:
    image = image.convert("RGBA")
    ground = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
    image = PIL.Image.alpha_composite(ground, image)
  return image.convert("RGB")


def _natural(path: epath.Path) -> list:
  parts = re.split(r"(\d+)", path.name)
  return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


@contextlib.contextmanager
def _reading(path: epath.Path):
  """Turns a decoder's exceptions into `Unreadable`: of damage they raise any class."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    # FFmpeg's errors repeat the path in their text, but not here.
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise Unreadable(f"{path}: cannot be decoded ({reason.splitlines()[0]})") from error


def _container(path: epath.Path, threads: int) -> Iterator[_Frame]:
  """The frames of a container file, through FFmpeg."""
  av = import_av()
  with (
    _reading(path),
    path.open("rb") as file,
    # Titles in any encoding.
    av.open(file, metadata_errors="replace") as container,
  ):
    if not container.streams.video:
      raise Unreadable(f"{path}: expected a video stream, found none")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    stream.thread_count = threads
    _check_size(path, stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
    size = path.stat().length
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
      raise Unreadable(f"{path}: truncated, its index points beyond its end")
    count, begin, end, duration = 0, None, None, None
    for packet in container.demux(stream):
      if packet.is_corrupt:
        raise Unreadable(f"{path}: truncated or damaged after {count} frames")
      for frame in packet.decode():
        if frame.time is None:
          raise Unreadable(f"{path}: frame {count} has no time stamp")
        if begin is not None and frame.time > begin:
          duration = frame.time - begin
        begin = frame.time
        coded = float((frame.duration or 0) * (frame.time_base or 0))
        duration = coded or duration or _nominal_duration(stream)
        end = begin + duration
        count += 1
        transposed, pixels = _upright(frame)
        aspect = float(stream.sample_aspect_ratio or 1)
        yield _Frame(begin, duration, pixels, 1 / aspect if transposed else aspect)
    _check_complete(path, container, stream, count, end, duration)


def _nominal_duration(stream) -> float:
  rate = stream.average_rate or stream.guessed_rate
  return float(1 / rate) if rate else 1 / 25


def _check_complete(path, container, stream, count, end, duration) -> None:
  """Raises `Unreadable` if the file promised more than was decoded.

  An MP4's index was checked before; its frame count may truly exceed what is shown
  (edit lists), so it is not looked at.
  """
  if not count:
    raise Unreadable(f"{path}: no frame can be decoded")
  if "mp4" in container.format.name:
    return
  # 5 %: durations of containers are rounded, and frame counts estimated, by some.
  # Null frames, of which AVI files have many, are counted but not decoded: the one
  # before them is shown on, and times tell.
  nominal = _nominal_duration(stream)
  covered = end - duration >= 0.95 * (stream.frames - 1) * nominal - 2 * nominal
  if stream.frames and count < 0.95 * stream.frames - 1 and not covered:
    raise Unreadable(f"{path}: truncated, {count} of {stream.frames} frames")
  promised = _promised_seconds(container, stream)
  if promised and end < 0.95 * promised - 2 * duration:
    raise Unreadable(f"{path}: truncated, {end:.2f} of {promised:.2f} seconds")


def _promised_seconds(container, stream) -> float:
  match = re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
  if match:
    hours, minutes, seconds = (float(part) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
  if stream.duration:
    return float(stream.duration * stream.time_base)
  # With sound, the container's duration may be that of the sound.
  alone = len(container.streams) == 1
  return container.duration / 1e6 if container.duration and alone else 0.0


def _upright(frame) -> tuple[bool, Any]:
  """(whether width and height swap, function giving the upright RGB picture)."""
  transposed, operations = _display_operations(frame.side_data.get("DISPLAYMATRIX"))

  def pixels():
    # By default every frame starts threads of its own, which last until it is freed.
    image = frame.to_image(threads=1)
    if frame.color_trc in (hdr.PQ, hdr.HLG):
      image = PIL.Image.fromarray(hdr.to_sdr(np.asarray(image), frame.color_trc))
    if frame.interlaced_frame:  # Its two fields are of two moments: the first counts.
      field = PIL.Image.fromarray(np.asarray(image)[::2])
      image = field.resize(image.size, PIL.Image.Resampling.BILINEAR)
    for operation in operations:
      image = image.transpose(operation)
    return image

  return transposed, pixels


def _display_operations(matrix) -> tuple[bool, list]:
  """Pillow operations that apply a display matrix, which cameras write.

  The matrix [[a, b, u], [c, d, v], [x, y, w]] maps a pixel (x, y) to
  (a x + c y, b x + d y). Only quarter turns and mirrorings occur in practice.
  """
  if matrix is None:
    return False, []
  (a, b, _), (c, d, _), _ = np.frombuffer(bytes(matrix), "<i4").reshape(3, 3).tolist()
  transposed = abs(b) > abs(a)
  to_x, to_y = (c, b) if transposed else (a, d)
  operations = [PIL.Image.Transpose.TRANSPOSE] * transposed
  operations += [PIL.Image.Transpose.FLIP_LEFT_RIGHT] * (to_x < 0)
  operations += [PIL.Image.Transpose.FLIP_TOP_BOTTOM] * (to_y < 0)
  return transposed, operations


def _fit(
  source, size: tuple[int, int] | None, channels: int, crop: bool = True
) -> np.ndarray:
  """uint8 [H, W, channels]: the centre of a picture (or all of it), at `size`."""
  image, pixel_aspect = source
  if size is None and abs(pixel_aspect - 1) > 1e-3:  # Nothing is shrunk.
    taller, wider = max(1, 1 / pixel_aspect), max(1, pixel_aspect)
    size, crop = (round(image.height * taller), round(image.width * wider)), False
  if size is not None:
    height, width = size
    # The largest centred box of the target's aspect, in (maybe oblong) pixels.
    box_width = min(image.width, image.height * width / height / pixel_aspect)
    box_height = box_width * pixel_aspect * height / width
    if not crop:
      box_width, box_height = image.size
    left = max((image.width - box_width) / 2, 0)
    top = max((image.height - box_height) / 2, 0)
    right = min(left + box_width, image.width)  # Pillow minds rounding errors.
    box = (left, top, right, min(top + box_height, image.height))
    shrinks = box_width >= width and box_height >= height
    filters = PIL.Image.Resampling
    filter_ = filters.BOX if shrinks else filters.BICUBIC
    image = image.resize((width, height), filter_, box=box)
  array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
  return array.reshape(*array.shape[:2], channels)
