"""Embedding of videos and pictures in the page, up to a number of bytes."""

import html
import io
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import PIL.Image
from etils import epath

from vdm_jax.data import sheet
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.report import document
from vdm_jax.report.contents import Films, Run, Sample

MOST_STEPS = 30  # Largest number of steps with samples.
_MOST_FILMS = 8  # Largest number of videos per folder.
_MOST_FOLDERS = 2  # Number of latest folders of videos.
_MOST_SHEET = 6  # Number of videos of the data set.
_MOST_WIDTH = 1400  # Largest width of their sheet in pixels, for small files.
_KINDS = {".gif": "image/gif", ".png": "image/png", ".mp4": "video/mp4"}

T = TypeVar("T")


class Room:
  """The remaining room in the page.

  Attributes:
    left: bytes of files that may be added.
    notes: sentences on what was left out, and why.
  """

  def __init__(self, megabytes: float):
    # Encoding takes 4 characters for 3 bytes; charts and text take little.
    self.left = int(megabytes * 1e6 * 3 / 4)
    self.notes: list[str] = []

  def take(self, path: epath.Path, share: float = 1.0) -> bytes | None:
    """Reads a file; None, with a note, if it takes too much room.

    Args:
      path: path of the file.
      share: share of the remaining room that it may take.
    """
    try:
      size = path.stat().length
      content = path.read_bytes() if 0 < size <= share * self.left else None
    except OSError as error:
      self.notes.append(f"{path}: cannot be read ({error.strerror}), left out.")
      return None
    if content is None:
      why = f"{size / 1e6:.1f} MB, too large for the page" if size else "empty"
      self.notes.append(f"{path}: {why}, left out.")
      return None
    self.left -= size
    return content


def picture(room: Room, path: epath.Path, words: str, kind: str = "") -> str:
  """Embeds an image; '' if there is no room for it or it is not an image.

  Args:
    room: remaining room in the page.
    path: path of a GIF or PNG.
    words: description of the image, for readers who do not see it.
    kind: class of the style.
  """
  content = room.take(path, 0.5)
  size = _size(content) if content else None
  if content and size is None:
    room.notes.append(f"{path}: no whole picture, left out.")
  if size is None:
    return ""
  address = document.data_address(content, _KINDS[path.suffix])
  return _image(address, size, words, kind)


def samples(run: Run, room: Room, share: float) -> str:
  """Makes a figure for each step: the video, and its frames side by side.

  Args:
    run: run that made the samples.
    room: remaining room in the page.
    share: share of the remaining room that these may take.
  """
  chosen, limit = run.samples, share * room.left
  if len(chosen) > MOST_STEPS:
    chosen = evenly(chosen, MOST_STEPS)
  while len(chosen) > 1 and sum(map(_bytes, chosen)) > limit:
    chosen = evenly(chosen, max(1, len(chosen) * 3 // 4))
  if left_out := len(run.samples) - len(chosen):
    room.notes.append(
      f"{run.workdir}: samples of {len(chosen)} steps of {len(run.samples)} are shown, "
      f"{left_out} are left out so that the page stays small; all are in "
      f"{epath.Path(run.workdir) / 'samples'}."
    )
  figures = [_figure(one, room) for one in chosen]
  return "".join(filter(None, figures))


def shown_steps(figures: str) -> list[int]:
  """Lists the steps of the figures made by `samples`."""
  return [int(part.partition('"')[0]) for part in figures.split('data-step="')[1:]]


def films(found: Sequence[Films], room: Room) -> str:
  """Shows the latest videos of `vdm-jax sample`."""
  parts = []
  for one in found[:_MOST_FOLDERS]:
    shown = []
    for path in one.files[:_MOST_FILMS]:
      words = f"Sample {path.stem} of {one.folder.name}"
      if path.suffix == ".mp4":
        content = room.take(path, 0.2)
        if content:
          address = document.data_address(content, "video/mp4")
          shown.append(
            f'<video controls loop muted playsinline preload="auto" '
            f'aria-label="{html.escape(words)}" src="{address}"></video>'
          )
      else:
        shown.append(picture(room, path, words))
    shown = [part for part in shown if part]
    if not shown:
      continue
    button = '<button type="button" class="script">Play all</button>'
    button *= any(part.startswith("<video") for part in shown)
    more = len(one.files) - len(shown)
    parts.append(
      f"<h3>{html.escape(str(one.folder))}</h3>"
      + document.paragraph(
        _made(one) + (f" {more} more there." if more else ""), "note"
      )
      + f'<div class="filmset">{button}<div class="row">{"".join(shown)}</div></div>'
    )
  if len(found) > _MOST_FOLDERS:
    room.notes.append(
      f"Videos of the {_MOST_FOLDERS} latest folders of {len(found)} are shown."
    )
  return "".join(parts)


def data_sheet(run: Run, room: Room) -> str:
  """Shows the first videos of the data set as frames, if it is on this machine."""
  name, folder = run.field("data.name"), run.field("data.data_dir") or None
  if not name:
    return ""
  try:
    source = sources.load(str(name), folder, pool=run.field("data.pool", 0) or 1)
    count = min(_MOST_SHEET, source.num_videos)
    most = min(int(run.field("task.num_frames", 0) or 16), 16)
    wanted = [(i, np.arange(min(most, source.lengths[i]))) for i in range(count)]
    clips = [found["frames"] for found in source.read_many(wanted)]
  except (UserError, OSError, KeyError, ValueError) as error:
    why = " ".join(str(error).split())
    return document.paragraph(f"Not shown: {why}", "note")
  captions = [_caption(source, i) for i in range(count)]
  image = PIL.Image.fromarray(sheet.contact_sheet(clips, captions=captions))
  if image.width > _MOST_WIDTH:
    image.thumbnail((_MOST_WIDTH, image.height), PIL.Image.Resampling.BOX)
  buffer = io.BytesIO()
  image.save(buffer, format="PNG")
  room.left -= buffer.tell()
  shape = "x".join(map(str, source.frame_shape))
  words = f"The first {count} training videos of {name}, one per row: " + "; ".join(
    captions
  )
  address = document.data_address(buffer.getvalue(), "image/png")
  shortest, longest = source.lengths.min(), source.lengths.max()
  span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
  facts = (
    f"{name}, split train: {source.num_videos:,} videos of {span} frames of {shape}, "
    f"{source.num_labels} labels."
  )
  return document.paragraph(facts) + _image(address, image.size, words, "sheet")


def evenly(items: Sequence[T], count: int) -> list[T]:
  """Selects `count` evenly spaced items, with the last and, if several, the first."""
  if count == 1:
    return [items[-1]]
  places = np.linspace(0, len(items) - 1, count).round().astype(int)
  return [items[place] for place in places]


def _figure(one: Sample, room: Room) -> str:
  words = f"Samples at step {one.step:,}"
  film = (
    picture(room, one.film, f"{words}, videos side by side", "film") if one.film else ""
  )
  still = (
    picture(room, one.still, f"{words}, frame by frame", "frames") if one.still else ""
  )
  if not (film or still):
    return ""
  # With only one of the two there is nothing to switch to.
  if not (film and still):
    film, still = (part.replace(' class="film"', "").replace(' class="frames"', "")
                   for part in (film, still))  # fmt: skip
  return (
    f'<figure data-step="{one.step}">{film}{still}'
    f"<figcaption>step {one.step:,}</figcaption></figure>"
  )


def _bytes(one: Sample) -> int:
  return sum(path.stat().length for path in (one.film, one.still) if path)


def _size(content: bytes) -> tuple[int, int] | None:
  """Reads width and height of a picture; None if it is not one, or incomplete."""
  try:
    with PIL.Image.open(io.BytesIO(content)) as image:
      image.load()
      return image.size
  except Exception:  # Decoders may raise anything.
    return None


def _image(address: str, size: tuple[int, int], words: str, kind: str) -> str:
  attribute = f' class="{kind}"' if kind else ""
  return (
    f'<img{attribute} alt="{html.escape(words)}" width="{size[0]}" height="{size[1]}" '
    f'src="{address}">'
  )


def _made(films: Films) -> str:
  """Describes in a sentence how samples were made."""
  record = films.record
  settings = record.get("settings")
  settings = settings if isinstance(settings, dict) else {}
  facts = [f"checkpoint of step {record.get('checkpoint_step', '?')}"]
  facts += [f"seed {record['seed']}"] if "seed" in record else []
  facts += [f"{key} {settings[key]}" for key in ("sampler", "steps", "guidance")
            if settings.get(key)]  # fmt: skip
  return ", ".join(facts).capitalize() + "."


def _caption(source: sources.VideoSource, number: int) -> str:
  label = source.label(number)
  names = source.label_names
  named = "" if label < 0 else names[label] if label < len(names) else f"label {label}"
  return source.caption(number) or named or source.name(number)
