"""A user's own folder of videos, which is decoded once into chunk records.

    clips/
      cat.mp4  dogs/rex.webm  wave.gif     files, at any depth
      walk/0001.png 0002.png ...           a folder of pictures is one video
      captions.csv                         optional: file,caption
      labels.csv                           optional: file,label (name or number)

Frames are resized to one size (the largest centred part of that aspect, area-averaged)
and optionally to one frame rate. A video that cannot be read, ends early or is too
short is skipped and reported; it never stops the build.

Splits. If every video is below a folder called train, validation (or val) or test,
those are the splits. Otherwise a hash of the file's name decides, so that adding videos
moves none to another split.
"""

import collections
import dataclasses
import hashlib
import math
import os
import unicodedata
from collections.abc import Iterator

from etils import epath

from vdm_jax.data import decode, decoded, folder, records, tables
from vdm_jax.errors import UserError

_TABLES = ("captions.csv", "labels.csv")
_SPLIT_FOLDERS = {
  "train": "train",
  "validation": "validation",
  "val": "validation",
  "test": "test",
}


@dataclasses.dataclass(eq=False)
class VideoFolderConfig(records.ChunkConfig):
  """Options; the config's name is the user's name for the data set."""

  path: str = records.option("", "folder of the videos", stored=False)
  image_size: str = records.option(
    "64", "height and width of the frames in pixels, or HEIGHTxWIDTH"
  )
  fps: float = records.option(0.0, "frames per second; 0 keeps every coded frame")
  channels: int = records.option(3, "3 RGB, 1 grey")
  min_frames: int = records.option(2, "length below which videos are skipped")
  max_frames: int = records.option(
    0, "length to which longer videos are cut; 0: no limit"
  )
  label_folders: bool = records.option(
    False, "whether the folder of a file is its label"
  )
  validation: float = records.option(0.1, "fraction of videos for validation")
  test: float = records.option(0.1, "fraction of videos for test")
  num_workers: int = folder.workers_option()

  def __post_init__(self):
    if not self.name:
      raise UserError("video_folder: expected a name for the data set (`name=...`)")
    if "/" in self.name:
      raise UserError(f"video_folder name: expected no slash, found {self.name!r}")
    if self.channels not in (1, 3):
      raise UserError(f"video_folder channels: expected 1 or 3, found {self.channels}")
    for field in ("fps", "min_frames", "max_frames"):
      value = getattr(self, field)
      if not 0 <= value < math.inf:
        raise UserError(f"video_folder {field}: expected a number >= 0, found {value}")
    least, both = min(self.validation, self.test), self.validation + self.test
    if not (least >= 0 and both < 1):
      raise UserError(
        "video_folder validation, test: expected fractions that leave some for"
        f" training, found {self.validation} and {self.test}"
      )

  @property
  def size(self) -> tuple[int, int]:
    """Returns (H, W) in pixels."""
    parts = str(self.image_size).lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) for part in parts):
      raise UserError(
        f"video_folder image_size: expected 64 or 48x64, found {self.image_size!r}"
      )
    return int(parts[0]), int(parts[-1])


@dataclasses.dataclass(frozen=True)
class _Item:
  """A video that was found: its location, and its name (path below the folder)."""

  name: str
  path: epath.Path


class VideoFolder(folder.FolderBuilder):
  """A user's own folder of videos."""

  CONFIG = VideoFolderConfig

  @classmethod
  def parse(cls, config_name: str, **options) -> VideoFolderConfig:
    """Makes the config; a data set without a name is named after its folder."""
    name = config_name or epath.Path(options.get("path", "")).name
    return VideoFolderConfig(name=name, **options)

  def frame_shape(self) -> tuple[int, int, int]:
    return (*self.builder_config.size, self.builder_config.channels)

  def videos(self):
    items = self._find()
    self._captions = self._column("captions.csv", "caption", items)
    labels = self._column("labels.csv", "label", items)
    if self.builder_config.label_folders:
      labels = {item.name: item.path.parent.name for item in items} | labels
    self._labels, self._label_names = _number(labels)
    least = min(self._labels.values(), default=0)
    if least:
      self.note(f"labels are numbers from {least} on: those below it have no videos")
    sorted_by_user = all(item.name.split("/")[0] in _SPLIT_FOLDERS for item in items)
    splits: dict[str, list[_Item]] = {}
    for item in items:
      split = self._split_of(item.name, sorted_by_user)
      splits.setdefault(split, []).append(item)
    # However few the videos are, some are for training.
    if "train" not in splits:
      splits = {"train": items}
    return {split: self._read_all(split, splits[split]) for split in sorted(splits)}

  def label_names(self) -> list[str]:
    return self._label_names

  def _find(self) -> list[_Item]:
    root = epath.Path(self.builder_config.path).expanduser()
    if not self.builder_config.path or not root.is_dir():
      raise UserError(f"video_folder: expected a folder of videos, found {str(root)!r}")
    ignored, refused = collections.Counter(), []
    items = sorted(_walk(root, root, ignored, refused), key=lambda item: item.name)
    for name, reason in refused:
      self.skip(name, reason)
    if ignored:
      counts = ", ".join(
        f"{count} {suffix}" for suffix, count in sorted(ignored.items())
      )
      self.note(f"files that are no videos were left out: {counts}")
    if not items:
      kinds = " ".join(decode.VIDEO_SUFFIXES)
      raise UserError(
        f"{root}: expected videos ({kinds}) or folders of pictures, found none"
      )
    return items

  def _split_of(self, name: str, sorted_by_user: bool) -> str:
    config = self.builder_config
    if sorted_by_user:
      return _SPLIT_FOLDERS[name.split("/")[0]]
    digest = hashlib.sha256(name.encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test:
      return "test"
    return "validation" if place < config.test + config.validation else "train"

  def _read_all(self, split: str, items: list[_Item]) -> Iterator[records.Video]:
    config = self.builder_config
    options = dict(
      size=config.size,
      channels=config.channels,
      fps=config.fps,
      max_frames=config.max_frames,
    )
    jobs = [decoded.Job(item.name, os.fspath(item.path), options) for item in items]
    for name, part in self.read_all(jobs, split):
      if part.length < max(1, config.min_frames):
        reason = f"{part.length} frames, {config.min_frames} are needed"
        self.skip(name, reason, split)
      else:
        yield self.video(name, part)

  def facts(self, name: str) -> tuple[int, str]:
    return self._labels.get(name, -1), self._captions.get(name, "")

  def _column(self, file: str, column: str, items: list[_Item]) -> dict[str, str]:
    """Reads {video name: value} from a CSV file in the folder, if there is one."""
    path = epath.Path(self.builder_config.path).expanduser() / file
    if not path.exists():
      return {}
    names = _known_names(items)
    values, strangers = {}, []
    for file_name, value in tables.read_csv(path, "file", column):
      name = names.get(_composed(_shown(file_name)))
      if name is None:
        strangers.append(file_name)
      else:
        values[name] = value
    if strangers:
      self.note(
        f"{file}: {len(strangers)} lines name no video, such as {strangers[0]!r}"
      )
    return {name: value for name, value in values.items() if value}


def _walk(
  directory: epath.Path,
  root: epath.Path,
  ignored: collections.Counter,
  refused: list[tuple[str, str]],
) -> Iterator[_Item]:
  """Finds all videos below `directory`.

  A folder that holds pictures and no video is itself a video; pictures beside videos
  are taken for thumbnails.

  Args:
    directory: folder to search.
    root: folder that names are relative to.
    ignored: collects the suffixes of files that are neither.
    refused: collects (name, reason) of folders that cannot be listed.
  """

  def name(path: epath.Path) -> str:
    return _shown(path.relative_to(root).as_posix())

  try:
    entries = [path for path in directory.iterdir() if not path.name.startswith(".")]
    folders = {path for path in entries if path.is_dir()}
  except OSError as error:
    refused.append((name(directory), str(error.strerror or error)))
    return
  films = {
    path
    for path in entries
    if path not in folders and path.suffix.lower() in decode.VIDEO_SUFFIXES
  }
  pictures = [path for path in entries if decode.is_picture(path)]
  if pictures and not films and directory != root:
    yield _Item(name(directory), directory)
    pictures = []
  for path in films:
    yield _Item(name(path), path)
  for path in pictures:
    ignored[path.suffix.lower()] += 1
  for path in entries:
    if path in folders:
      yield from _walk(path, root, ignored, refused)
    elif not decode.is_picture(path) and path not in films and path.name not in _TABLES:
      ignored[path.suffix.lower() or "without a suffix"] += 1


def _known_names(items: list[_Item]) -> dict[str, str]:
  """Maps names for use in CSV files to videos: paths, or unambiguous shorter forms."""
  counts: collections.Counter[str] = collections.Counter()
  names: dict[str, str] = {}
  for item in items:
    stem = item.name.removesuffix(item.path.suffix)
    for alias in {stem, *(name.rpartition("/")[2] for name in (item.name, stem))}:
      counts[_composed(alias)] += 1
      names[_composed(alias)] = item.name
  unambiguous = {alias: name for alias, name in names.items() if counts[alias] == 1}
  return unambiguous | {_composed(item.name): item.name for item in items}


def _shown(name: str) -> str:
  """Escapes line feeds and non-UTF-8 bytes of a file's name."""
  return "".join(
    char
    if unicodedata.category(char) not in ("Cc", "Cs")
    else os.fsencode(char).decode(errors="backslashreplace")
    if unicodedata.category(char) == "Cs"
    else repr(char)[1:-1]
    for char in name
  )


def _composed(text: str) -> str:
  """Normalises Unicode, as macOS stores letters and accents separately."""
  return unicodedata.normalize("NFC", text)


def _number(labels: dict[str, str]) -> tuple[dict[str, int], list[str]]:
  """Converts labels to numbers, with names if they are not numbers already."""
  if all(label.isdecimal() for label in labels.values()):
    return {name: int(label) for name, label in labels.items()}, []
  label_names = sorted(set(labels.values()))
  numbers = {label: number for number, label in enumerate(label_names)}
  return {name: numbers[label] for name, label in labels.items()}, label_names
