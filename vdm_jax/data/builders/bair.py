"""BAIR robot pushing, from the TFRecord files of its release (Ebert et al. 2017).

    softmotion30_44k/train/traj_0_to_255.tfrecords ...   256 clips per file
    softmotion30_44k/test/traj_0_to_255.tfrecords

A clip is 30 frames of 64x64 from two cameras, with the arm's action and the gripper's
position in every frame. SVG, MCVD and RVD use `aux1`. There is no official validation
split, so the last training files are held out for one.

A record with a bad checksum, or that is not such a clip, is skipped and reported.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from etils import epath

from vdm_jax.data import folder, records, tfrecord

CAMERAS = ("aux1", "main")
NUM_FRAMES = 30
FRAME_SHAPE = (64, 64, 3)
_EXTRAS = {"action": 4, "endeffector_pos": 3}  # How many numbers per frame.


@dataclasses.dataclass(eq=False)
class BAIRConfig(folder.FolderConfig):
  """Options; the config's name holds the camera and all non-default values."""

  camera: str = records.option("aux1", "camera of the frames: aux1 or main")
  held_out_files: int = records.option(
    1, "number of training files (of 256 clips) for validation"
  )

  NUMBERS: ClassVar = {"heldoutfiles": "held_out_files"}
  WORDS: ClassVar = {camera: ("camera", camera) for camera in CAMERAS}
  SHOWN: ClassVar = ("camera",)

  def __post_init__(self):
    super().__post_init__()
    self.choose("camera", CAMERAS)


class BAIR(folder.FolderBuilder):
  """BAIR robot pushing: 30 frames of 64x64, from softmotion30_44k's TFRecords."""

  CONFIG = BAIRConfig

  def frame_shape(self) -> tuple[int, int, int]:
    return FRAME_SHAPE

  def extras(self) -> dict[str, records.Extra]:
    return {name: records.Extra((size,)) for name, size in _EXTRAS.items()}

  def videos(self):
    root = self.root("the folder softmotion30_44k")
    inner = root / "softmotion30_44k"
    root = inner if inner.is_dir() else root
    train, test = (self._files(root / split) for split in ("train", "test"))
    held_out = self.builder_config.held_out_files
    if held_out and held_out >= len(train):
      self.builder_config.refuse("held_out_files", f"fewer than the {len(train)} files")
    kept = len(train) - held_out
    splits = {"train": train[:kept], "validation": train[kept:], "test": test}
    return {split: self._read(split, files) for split, files in splits.items()}

  def _files(self, directory: epath.Path) -> list[epath.Path]:
    if not directory.is_dir():
      raise folder.missing(directory, "TFRecord files (traj_*.tfrecords)")
    files = folder.find(directory, [".tfrecords"])
    if not files:
      raise folder.missing(directory, "TFRecord files (traj_*.tfrecords)")
    return sorted(files, key=_first_clip)

  def _read(self, split: str, files: list[epath.Path]) -> Iterator[records.Video]:
    total = sum(map(_num_clips, files))
    clips = ((path, record) for path in files for record in tfrecord.read(path))
    for path, record in records.progress(clips, total=total, description=split):
      try:
        if record.damage:
          raise ValueError(record.damage)
        frames, extra = _clip(record.data, self.builder_config.camera)
      except ValueError as error:
        self.skip(f"{path.parent.name}/{path.name}, record {record.number}", error)
        continue
      name = f"traj_{_first_clip(path) + record.number}"
      yield records.Video(frames=frames, name=name, extra=extra)


def _first_clip(path: epath.Path) -> int:
  """Reads the number of a file's first clip from its name."""
  return int(_numbers(path)[0])


def _num_clips(path: epath.Path) -> int:
  first, last = map(int, _numbers(path))
  return last - first + 1


def _numbers(path: epath.Path) -> tuple[str, str]:
  match = re.fullmatch(r"traj_(\d+)_to_(\d+)\.tfrecords", path.name)
  if not match:
    raise folder.missing(path, "a name such as traj_0_to_255.tfrecords", path.name)
  return match[1], match[2]


def _clip(data: bytes, camera: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Decodes (frames uint8 [30, 64, 64, 3], extras float32 [30, ...]) of a record.

  Raises:
    ValueError: the record is not a clip.
  """
  features = tfrecord.parse_example(data)
  frames = np.empty((NUM_FRAMES, *FRAME_SHAPE), np.uint8)
  extra = {
    name: np.empty((NUM_FRAMES, size), np.float32) for name, size in _EXTRAS.items()
  }
  for i, frame in enumerate(frames):
    [pixels] = _values(features, f"{i}/image_{camera}/encoded", 1)
    if len(pixels) != frame.size:
      raise ValueError(
        f"expected {frame.size} bytes in {i}/image_{camera}/encoded, found"
        f" {len(pixels)}"
      )
    frame[:] = np.frombuffer(pixels, np.uint8).reshape(FRAME_SHAPE)
    for name, values in extra.items():
      values[i] = _values(features, f"{i}/{name}", values.shape[1])
  return frames, extra


def _values(features: dict[str, list], name: str, count: int) -> list:
  values = features.get(name, [])
  if len(values) != count:
    raise ValueError(f"expected {count} values in {name}, found {len(values)}")
  return values
