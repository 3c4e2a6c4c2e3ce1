"""Decoding of container files through FFmpeg, with checks of completeness."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image
from etils import epath

from vdm_jax.data import hdr, reading
from vdm_jax.errors import UserError


def import_av():
  """Imports PyAV, which needs an extra."""
  try:
    import av
  except ImportError as error:
    raise UserError(
      "video files need the `video` extra: pip install 'vdm_jax[video]'"
    ) from error
  return av


def frames(path: epath.Path, threads: int) -> Iterator[reading.Frame]:
  """Yields the frames of a container file."""
  av = import_av()
  with (
    reading.guarded(path),
    path.open("rb") as file,
    # Titles may have any encoding.
    av.open(file, metadata_errors="replace") as container,
  ):
    if not container.streams.video:
      raise reading.Unreadable(f"{path}: expected a video stream, found none")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    stream.thread_count = threads
    reading.check_size(path, stream.width, stream.height)
    stream.codec_context.options = {"max_pixels": str(reading.MOST_PIXELS)}
    size = path.stat().length
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
      raise reading.Unreadable(f"{path}: truncated, its index points beyond its end")
    count, begin, end, duration = 0, None, None, None
    for packet in container.demux(stream):
      if packet.is_corrupt:
        raise reading.Unreadable(f"{path}: truncated or damaged after {count} frames")
      for frame in packet.decode():
        if frame.time is None:
          raise reading.Unreadable(f"{path}: frame {count} has no time stamp")
        if begin is not None and frame.time > begin:
          duration = frame.time - begin
        begin = frame.time
        coded = float((frame.duration or 0) * (frame.time_base or 0))
        duration = coded or duration or _nominal_duration(stream)
        end = begin + duration
        count += 1
        transposed, pixels = _upright(frame)
        aspect = float(stream.sample_aspect_ratio or 1)
        yield reading.Frame(
          begin, duration, pixels, 1 / aspect if transposed else aspect
        )
    _check_complete(path, container, stream, count, end, duration)


def _nominal_duration(stream) -> float:
  rate = stream.average_rate or stream.guessed_rate
  return float(1 / rate) if rate else 1 / 25


def _check_complete(path, container, stream, count, end, duration) -> None:
  """Raises `Unreadable` if the file announced more frames than were decoded.

  An MP4's index was checked before. Its frame count is ignored, as edit lists may hide
  some frames.
  """
  if not count:
    raise reading.Unreadable(f"{path}: no frame can be decoded")
  if "mp4" in container.format.name:
    return
  # 5 % of tolerance, as some programs round durations and estimate frame counts. Null
  # frames, which are common in AVI files, are counted but not decoded: the frame before
  # is shown longer, so durations decide.
  nominal = _nominal_duration(stream)
  covered = end - duration >= 0.95 * (stream.frames - 1) * nominal - 2 * nominal
  if stream.frames and count < 0.95 * stream.frames - 1 and not covered:
    raise reading.Unreadable(f"{path}: truncated, {count} of {stream.frames} frames")
  promised = _promised_seconds(container, stream)
  if promised and end < 0.95 * promised - 2 * duration:
    raise reading.Unreadable(f"{path}: truncated, {end:.2f} of {promised:.2f} seconds")


def _promised_seconds(container, stream) -> float:
  match = re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
  if match:
    hours, minutes, seconds = (float(part) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
  if stream.duration:
    return float(stream.duration * stream.time_base)
  # If there is sound, the container's duration may be that of the sound.
  alone = len(container.streams) == 1
  return container.duration / 1e6 if container.duration and alone else 0.0


def _upright(frame) -> tuple[bool, Any]:
  """Returns (whether width and height swap, function of the upright RGB picture)."""
  transposed, operations = _display_operations(frame.side_data.get("DISPLAYMATRIX"))

  def pixels():
    # By default every frame starts threads, which live until it is freed.
    image = frame.to_image(threads=1)
    if frame.color_trc in (hdr.PQ, hdr.HLG):
      image = PIL.Image.fromarray(hdr.to_sdr(np.asarray(image), frame.color_trc))
    if frame.interlaced_frame:  # Keeps the first of two fields of different times.
      field = PIL.Image.fromarray(np.asarray(image)[::2])
      image = field.resize(image.size, PIL.Image.Resampling.BILINEAR)
    for operation in operations:
      image = image.transpose(operation)
    return image

  return transposed, pixels


def _display_operations(matrix) -> tuple[bool, list]:
  """Lists the Pillow operations for a display matrix, as cameras write it.

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
