"""UCF-101, from the videos and the split files of its release (Soomro et al. 2012).

    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi ...   13,320 videos
    ucfTrainTestlist/classInd.txt trainlist01.txt testlist01.txt ...

Both are below one folder, or the lists have a folder of their own. There are three
official splits of training and test videos, which share no group (g01: clips cut from
one video), and no validation split. Papers on unconditional generation train on all
videos, which is fold 0.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import ClassVar

from etils import epath

from vdm_jax.data import decode, folder, records, tables


@dataclasses.dataclass(eq=False)
class Ucf101Config(folder.FolderConfig):
  """Options; the config's name holds size, fold and all non-default values."""

  image_size: int = records.option(64, "height and width of a frame in pixels")
  fold: int = records.option(1, "official split 1, 2 or 3; 0: all videos train")
  fps: float = records.option(0.0, "frames per second; 0 keeps every coded frame")
  lists: str = records.option("", "folder of the split files", stored=False)
  num_workers: int = folder.workers_option()

  NUMBERS: ClassVar = {"px": "image_size", "fold": "fold", "fps": "fps"}
  SHOWN: ClassVar = ("image_size", "fold")

  def __post_init__(self):
    super().__post_init__()
    self.choose("fold", range(4))


class Ucf101(folder.FolderBuilder):
  """UCF-101: 13,320 videos of 101 actions, with an official split."""

  CONFIG = Ucf101Config

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 3)

  def label_names(self) -> list[str]:
    return self._classes

  def videos(self):
    root = self.root("the folder of UCF-101's videos")
    config = self.builder_config
    found = {p.stem: p for p in folder.find(root, decode.VIDEO_SUFFIXES)}
    lists = folder.folder_or(config.lists, root)
    self._classes = _read_classes(folder.find_one(lists, "classInd.txt"))
    self._numbers = {name.lower(): i for i, name in enumerate(self._classes)}
    if not config.fold:
      splits = {"train": sorted(found)}
    else:
      splits = {
        split: _read_list(folder.find_one(lists, f"{split}list0{config.fold}.txt"))
        for split in ("train", "test")
      }
      listed = {name for names in splits.values() for name in names}
      self.note_some("{} videos are in no split file", sorted(set(found) - listed))
    return {split: self._read(split, names, found) for split, names in splits.items()}

  def _read(self, split: str, names: list[str], found: dict) -> Iterator[records.Video]:
    config = self.builder_config
    options = dict(size=(config.image_size, config.image_size), fps=config.fps)
    return self.read_named(names, found, split, options)

  def facts(self, name: str) -> tuple[int, str]:
    match = re.fullmatch(r"v_(\w+)_g\d+_c\d+", name)
    # The videos v_HandStandPushups_... belong to the class HandstandPushups.
    return self._numbers.get(match[1].lower(), -1) if match else -1, ""


def _read_classes(path: epath.Path) -> list[str]:
  """Reads class names by number, from lines such as "1 ApplyEyeMakeup"."""
  lines = [line.split() for line in tables.read_text(path).splitlines() if line.strip()]
  for number, line in enumerate(lines, start=1):
    if len(line) != 2 or line[0] != str(number):
      raise folder.missing(path, f"a line '{number} NAME'", " ".join(line))
  return [name for _, name in lines]


def _read_list(path: epath.Path) -> list[str]:
  """Reads names of videos, from lines such as "Archery/v_Archery_g08_c01.avi 3"."""
  lines = filter(None, map(str.split, tables.read_text(path).splitlines()))
  return [line[0].rpartition("/")[2].removesuffix(".avi") for line in lines]
