"""Kinetics-600, from a user's videos and the split files of its release.

    train.csv validate.csv test.csv        label,youtube_id,time_start,time_end,split
    train/abseiling/0347ZoDXyP0_000095_000105.mp4 ...       {id}_{start}_{end}, seconds

The CSV files may be in a folder of their own, the videos at any depth and in any format
that FFmpeg reads. A video's split and label are those of its line, not of its folder.
Missing videos are counted; those that cannot be read are skipped and reported.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from etils import epath

from vdm_jax import errors
from vdm_jax.data import decode, folder, records, tables

_COLUMNS = ("youtube_id", "time_start", "time_end", "split")
_SPLITS = {
  "train": "train",
  "val": "validation",
  "validate": "validation",
  "validation": "validation",
  "test": "test",
}


@dataclasses.dataclass(eq=False)
class Kinetics600Config(folder.FolderConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(64, "height and width of a frame in pixels")
  fps: float = records.option(0.0, "frames per second; 0 keeps every coded frame")
  max_frames: int = records.option(
    0, "length to which longer videos are cut; 0: no limit"
  )
  lists: str = records.option("", "folder of the split files", stored=False)
  num_workers: int = folder.workers_option()

  NUMBERS: ClassVar = {"px": "image_size", "fps": "fps", "maxframes": "max_frames"}


class _Line(NamedTuple):
  split: str
  label: str  # "" where it is withheld.


class Kinetics600(folder.FolderBuilder):
  """Kinetics-600: ten-second videos of 600 actions, with the official split."""

  CONFIG = Kinetics600Config

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 3)

  def label_names(self) -> list[str]:
    return self._classes

  def videos(self):
    root = self.root("the folder of Kinetics' videos")
    lines = _read_lists(folder.folder_or(self.builder_config.lists, root))
    self._classes = sorted({line.label for line in lines.values()} - {""})
    self._numbers = {name: number for number, name in enumerate(self._classes)}
    self._lines = lines
    found = {p.stem: p for p in folder.find(root, decode.VIDEO_SUFFIXES)}
    self.note_some("{} videos are in no split file", sorted(set(found) - set(lines)))
    splits = sorted({line.split for line in lines.values()})
    return {split: self._read(split, found) for split in splits}

  def _read(self, split: str, found: dict) -> Iterator[records.Video]:
    names = [name for name, line in self._lines.items() if line.split == split]
    config = self.builder_config
    options = dict(
      size=(config.image_size, config.image_size),
      fps=config.fps,
      max_frames=config.max_frames,
    )
    return self.read_named(names, found, split, options)

  def facts(self, name: str) -> tuple[int, str]:
    return self._numbers.get(self._lines[name].label, -1), ""


def _read_lists(directory: epath.Path) -> dict[str, _Line]:
  """Reads {name of a video: its line} from every CSV file that has the columns.

  Raises:
    UserError: there is no such file or it is not UTF-8, a split is unknown, or a time
      is not a number.
  """
  lines: dict[str, _Line] = {}
  for path in folder.find(directory, [".csv"]):
    reader = csv.DictReader(io.StringIO(tables.read_text(path)))
    if not set(_COLUMNS) <= set(reader.fieldnames or []):
      continue
    for row in reader:
      if row["split"] not in _SPLITS:
        raise errors.unknown(f"split in {path}", str(row["split"]), _SPLITS)
      try:
        start, end = int(float(row["time_start"])), int(float(row["time_end"]))
      except (TypeError, ValueError):
        found = f"{row['time_start']},{row['time_end']}"
        raise folder.missing(path, "start and end in seconds", found) from None
      name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
      lines.setdefault(name, _Line(_SPLITS[row["split"]], row.get("label") or ""))
  if not lines:
    raise folder.missing(directory, f"CSV files with columns {','.join(_COLUMNS)}")
  return lines
