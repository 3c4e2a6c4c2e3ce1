"""Decoding of GIFs through Pillow, with a check of their blocks for completeness."""

from collections.abc import Iterator

import PIL.Image
from etils import epath

from vdm_jax.data import reading

# Browsers replace durations below 20 ms, or missing ones, by 100 ms.
_SHORTEST, _DURATION = 0.02, 0.1


def frames(path: epath.Path) -> Iterator[reading.Frame]:
  """Yields the frames of a GIF; raises `Unreadable`."""
  with reading.guarded(path), path.open("rb") as file:
    promised, whole = _images(file)
    if not whole:
      raise reading.Unreadable(f"{path}: truncated, {promised} whole frames and no end")
    file.seek(0)
    with PIL.Image.open(file) as gif:
      reading.check_size(path, gif.width, gif.height)
      time = 0.0
      for number in range(max(promised, 1)):
        gif.seek(number)
        duration = gif.info.get("duration", 0) / 1000
        duration = duration if duration >= _SHORTEST else _DURATION
        # Converted now, as the next seek overwrites it.
        image = reading.rgb(gif)
        yield reading.Frame(time, duration, lambda image=image: image)
        time += duration


def _images(file) -> tuple[int, bool]:
  """Counts the complete images of a GIF, and tells whether it has its end.

  Decoders show whatever a truncated file holds, so only its blocks reveal that.
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
      continue  # Viewers skip to the next block, too.
    if not skip_blocks():
      break
    count += kind == b","
  return count, False
