"""KTH actions, from the videos and the sequence file of its release (Schuldt 2004).

    boxing/person01_boxing_d1_uncomp.avi ...     at any depth; 599 videos, 160x120
    00sequences.txt                              person01_boxing_d1 frames 1-95, ...

Every video shows an action up to four times; the sequence file lists the frames,
counted from 1, last one included. Each such sequence is one clip (2391 in all), as the
frames in between show no person.

Splits are by person: the official ones, which RVD uses (training, validation and
test, 8 + 8 + 9 persons), or MCVD's (1 to 20, 21 to 25, no validation).

Frames are stretched to a square, as the papers on prediction do.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator
from typing import ClassVar

from etils import epath

from vdm_jax.data import decode, decoded, folder, records

ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
PERSONS = {
  "official": {
    "train": (11, 12, 13, 14, 15, 16, 17, 18),
    "validation": (1, 4, 19, 20, 21, 23, 24, 25),
    "test": (2, 3, 5, 6, 7, 8, 9, 10, 22),
  },
  "mcvd": {"train": tuple(range(1, 21)), "test": tuple(range(21, 26))},
}
_VIDEO = re.compile(rf"person(\d\d)_({'|'.join(ACTIONS)})_d\d")


@dataclasses.dataclass(eq=False)
class KTHConfig(folder.FolderConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(64, "height and width of a frame in pixels")
  persons: str = records.option("official", "split of the persons: official or mcvd")
  aspect: str = records.option(
    "stretch", "how frames become square: stretch, or crop to the centre"
  )
  num_workers: int = folder.workers_option()

  NUMBERS: ClassVar = {"px": "image_size"}
  WORDS: ClassVar = {"mcvd": ("persons", "mcvd"), "crop": ("aspect", "crop")}

  def __post_init__(self):
    super().__post_init__()
    self.choose("persons", PERSONS)
    self.choose("aspect", ("stretch", "crop"))


class KTH(folder.FolderBuilder):
  """KTH actions: grey sequences of six actions by 25 persons."""

  CONFIG = KTHConfig

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 1)

  def label_names(self) -> list[str]:
    return list(ACTIONS)

  def videos(self):
    root = self.root("the folder of KTH's videos and 00sequences.txt")
    sequences = _read_sequences(folder.find_one(root, "00sequences.txt"))
    found = {
      path.stem.removesuffix("_uncomp"): path
      for path in folder.find(root, decode.VIDEO_SUFFIXES)
    }
    self.note_some(
      "{} videos of 00sequences.txt are missing", sorted(set(sequences) - set(found))
    )
    self.note_some(
      "{} videos are not in 00sequences.txt", sorted(set(found) - set(sequences))
    )
    names = sorted(set(sequences) & set(found))
    return {
      split: self._read(
        split,
        [name for name in names if int(_VIDEO.match(name)[1]) in persons],
        sequences,
        found,
      )
      for split, persons in PERSONS[self.builder_config.persons].items()
    }

  def _read(
    self, split: str, names: list[str], sequences: dict, found: dict
  ) -> Iterator[records.Video]:
    config = self.builder_config
    # One video of the release is damaged at its end, after three intact sequences.
    options = dict(
      size=(config.image_size, config.image_size),
      channels=1,
      crop=config.aspect == "crop",
      partial=True,
    )
    jobs = [decoded.Job(name, os.fspath(found[name]), options) for name in names]
    for name, part in self.read_all(jobs, split):
      for number, (first, last) in enumerate(sequences[name], start=1):
        if last > part.length:
          reason = part.damage or f"the video has {part.length} frames"
          self.skip(f"{name}, frames {first}-{last}", reason, split)
          continue
        clip = self.video(f"{name}_{number}", part)
        clip.frames = itertools.islice(clip.frames, first - 1, last)
        yield clip

  def facts(self, name: str) -> tuple[int, str]:
    return ACTIONS.index(_VIDEO.match(name)[2]), ""


def _read_sequences(path: epath.Path) -> dict[str, list[tuple[int, int]]]:
  """Reads {video: [(first, last) frame, counted from 1]} from the sequence file.

  The file begins with text, and lists one video as missing.
  """
  sequences = {}
  for line in path.read_bytes().decode(errors="replace").splitlines():
    name, _, ranges = line.strip().partition("frames")
    match = _VIDEO.fullmatch(name.strip())
    if match and ranges:
      pairs = re.findall(r"(\d+)-(\d+)", ranges)
      sequences[match[0]] = [(int(first), int(last)) for first, last in pairs]
  if not sequences:
    raise folder.missing(path, "lines such as 'person01_boxing_d1 frames 1-95, 96-185'")
  return sequences
