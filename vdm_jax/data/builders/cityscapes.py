"""Cityscapes sequences: drives through towns (Cordts et al. 2016), from its frames.

    leftImg8bit_sequence/train/aachen/aachen_000000_000000_leftImg8bit.png ...
    leftImg8bit_sequence/val/...          {town}_{sequence}_{frame}, 2048x1024, 17 Hz

The release consists of snippets of 30 consecutive frames, each of which is a clip. If a
frame is missing or cannot be read, the clip is skipped and reported: snippets are
recognised by the numbers of their frames, and never joined. Frames are cropped to the
central square.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from etils import epath

from vdm_jax.data import decode, decoded, folder, records

CLIP = 30
FPS = 17.0
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclasses.dataclass(eq=False)
class CityscapesConfig(folder.FolderConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(128, "height and width of a frame in pixels")
  num_workers: int = folder.workers_option()

  NUMBERS: ClassVar = {"px": "image_size"}


class _Picture(NamedTuple):
  drive: str  # Town and sequence.
  number: int
  path: epath.Path


class Cityscapes(folder.FolderBuilder):
  """Cityscapes sequences: clips of 30 frames from a moving car."""

  CONFIG = CityscapesConfig

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 3)

  def videos(self):
    root = self.root("the folder leftImg8bit_sequence")
    inner = root / "leftImg8bit_sequence"
    root = inner if inner.is_dir() else root
    splits = {}
    for name, split in _SPLITS.items():
      if (root / name).is_dir():
        runs = _runs(root / name)
        if runs:
          splits[split] = self._read(split, runs)
    if not splits:
      raise folder.missing(root, "train/TOWN/TOWN_000000_000000_leftImg8bit.png")
    return splits

  def _read(self, split: str, runs: list[list[_Picture]]) -> Iterator[records.Video]:
    size = (self.builder_config.image_size, self.builder_config.image_size)
    jobs = [
      decoded.Job(
        _name(clip[0]), [os.fspath(picture.path) for picture in clip], {"size": size}
      )
      for clip in self._clips(runs)
    ]
    for name, part in self.read_all(jobs, split):
      clip = self.video(name, part)
      clip.fps = FPS
      yield clip

  def _clips(self, runs: list[list[_Picture]]) -> Iterator[list[_Picture]]:
    """Cuts runs into clips; a run with a remainder lacks frames and is skipped."""
    previous = None
    for run in runs:
      if len(run) % CLIP == 0:
        yield from (run[i : i + CLIP] for i in range(0, len(run), CLIP))
        previous = None
        continue
      reason = f"{len(run)} consecutive frames, a multiple of {CLIP} is expected"
      if previous and previous.drive == run[0].drive:
        lost = range(previous.number + 1, run[0].number)
        if len(lost) < CLIP:
          reason += f"; missing before it: {', '.join(f'{n:06d}' for n in lost)}"
      self.skip(_name(run[0]), reason)
      previous = run[-1]


def _name(picture: _Picture) -> str:
  return f"{picture.drive}_{picture.number:06d}"


def _runs(directory: epath.Path) -> list[list[_Picture]]:
  """Groups the frames below a folder into runs of consecutive numbers."""
  pictures = []
  for path in folder.find(directory, decode.PICTURE_SUFFIXES):
    match = re.match(r"(.+_\d+)_(\d+)_leftImg8bit\.", path.name)
    if match:
      pictures.append(_Picture(match[1], int(match[2]), path))
  pictures.sort(key=lambda picture: picture[:2])
  # Within a run, number minus place is constant.
  keyed = itertools.groupby(
    enumerate(pictures), lambda item: (item[1].drive, item[1].number - item[0])
  )
  return [[picture for _, picture in run] for _, run in keyed]
