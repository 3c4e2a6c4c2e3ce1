"""Contact sheets, which show clips as rows of frames in one PNG."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from etils import epath

from vdm_jax import frames as frames_lib
from vdm_jax.data import video as video_lib

Colour = tuple[int, int, int]

# Colours of borders, with the same meaning in every picture of the library.
OBSERVED: Colour = (46, 160, 67)
LATENT: Colour = (66, 133, 244)
FORCED: Colour = (230, 145, 30)  # Both observed and latent (teacher-forced).
PADDING: Colour = (150, 150, 150)
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (30, 30, 30)
_MARGIN = 190  # Largest width of captions, in pixels.
_FONT_SIZE = 12


def contact_sheet(
  videos: np.ndarray | Sequence[np.ndarray],
  *,
  captions: Sequence[str] | None = None,
  borders: Sequence[Sequence[Colour | None]] | None = None,
  scale: int | None = None,
) -> np.ndarray:
  """Lays out clips, one per row.

  Args:
    videos: N clips uint8 [T, H, W, C] of equal frame size; T may differ.
    captions: text for the left margin of each row.
    borders: [N][T] colours around frames; None for no border.
    scale: integer enlargement; None brings frames to about 64 pixels.

  Returns:
    uint8 [height, width, 3].
  """
  height, width, channels = videos[0].shape[1:]
  scale = scale or video_lib.visible_scale(height, width, target=64)
  gap = 2 if borders is None else 6
  step_y, step_x = height * scale + gap, width * scale + gap
  margin = _margin(captions or [])
  columns = max(len(clip) for clip in videos)
  size = (margin + gap + columns * step_x, gap + len(videos) * step_y)
  image = PIL.Image.new("RGB", size, _PAPER)
  draw = PIL.ImageDraw.Draw(image)
  for row, clip in enumerate(videos):
    top = gap + row * step_y
    if captions is not None:
      _write_caption(draw, captions[row], top, margin, step_y - gap)
    large = np.repeat(video_lib.enlarge(clip, scale), 3 // channels, axis=-1)
    for column, frame in enumerate(large):
      left = margin + gap + column * step_x
      colour = borders[row][column] if borders is not None else None
      if colour is not None:
        box = (left - 2, top - 2, left + frame.shape[1] + 1, top + frame.shape[0] + 1)
        draw.rectangle(box, fill=colour)
      image.paste(PIL.Image.fromarray(frame), (left, top))
  return np.asarray(image)


def write_contact_sheet(path: epath.PathLike, videos, **options) -> None:
  """Writes a `contact_sheet`, with its arguments, as PNG."""
  write_png(path, contact_sheet(videos, **options))


def role_colours(frames: frames_lib.Frames) -> list[list[Colour]]:
  """Returns borders [B][T] that show the role of each frame of a batch."""
  observed, latent = np.asarray(frames.observed), np.asarray(frames.latent)
  colours = np.array([PADDING, LATENT, OBSERVED, FORCED])[2 * observed + latent]
  return [[tuple(colour) for colour in row] for row in colours.tolist()]


def write_png(path: epath.PathLike, picture: np.ndarray) -> None:
  """Writes a picture uint8 [H, W, 1 or 3], such as a contact sheet."""
  if picture.shape[-1] == 1:
    picture = picture[..., 0]
  buffer = io.BytesIO()
  PIL.Image.fromarray(picture).save(buffer, format="PNG")
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(buffer.getvalue())


def _margin(captions: Sequence[str]) -> int:
  """Computes the width of the left margin from the longest caption, within limits."""
  font = PIL.ImageFont.load_default(_FONT_SIZE)
  longest = max((font.getlength(caption) for caption in captions), default=0)
  return min(int(longest) + 12, _MARGIN) if longest else 0


def _write_caption(draw, caption: str, top: int, width: int, height: int) -> None:
  """Draws a caption in the margin, wrapped at words and cut at the row's height."""
  font = PIL.ImageFont.load_default(_FONT_SIZE)
  lines, line = [], ""
  for word in caption.split():
    longer = f"{line} {word}".strip()
    if line and draw.textlength(longer, font) > width - 8:
      lines.append(line)
      longer = word
    line = longer
  lines = [*lines, line][: max(1, height // (_FONT_SIZE + 4))]
  draw.text((4, top), "\n".join(lines), _INK, font, spacing=3)
