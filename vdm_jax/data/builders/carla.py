"""CARLA Town01 as released by FDM's authors: drives of 1000 frames, 128x128, 10 fps.

    video_{i}.pt       a uint8 tensor [T, 128, 128, 3] of torch.save
    coords_{i}.npy     [T, 2 or more]; the first two columns are x and y in metres
    video_train.csv    the videos of each split, one per line; only the name of the file
    video_test.csv     at the end of a line counts, not its folder

The position is kept for every frame. Reading needs the extra `torch`; no code in the
files is run.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vdm_jax.data import arrays, folder, records, tables
from vdm_jax.data.decode import Unreadable
from vdm_jax.errors import UserError
from vdm_jax.interop import torch_file

_LISTED = re.compile(r"([^/\\,]+\.pt)\s*$")


@dataclasses.dataclass(eq=False)
class CarlaConfig(arrays.ArrayConfig):
  """Options; the config's name holds the size and all non-default values."""

  image_size: int = records.option(128, "height and width of a frame: 128, 64 or 32")


class Carla(arrays.ArrayBuilder):
  """CARLA Town01 without traffic (FDM): drives, with the position of every frame."""

  CONFIG = CarlaConfig
  FPS = 10.0

  def extras(self) -> dict[str, records.Extra]:
    # Positions have no meaning for mirrored frames, which show another town.
    return {"position": records.Extra((2,))}

  def find(self) -> Mapping[str, list[arrays.Item]]:
    if importlib.util.find_spec("torch") is None:
      raise UserError(
        "data set carla: its videos are files of PyTorch, which is not installed:"
        " pip install 'vdm_jax[torch]'"
      )
    root = self.root("the folder of video_0.pt, coords_0.npy, ..., video_train.csv")
    listed = {split: _listed(root, f"video_{split}.csv") for split in ("train", "test")}
    there = {path.name for path in folder.find(root, [".pt"])}
    strangers = there.difference(*listed.values())
    self.note_some("{} videos are in neither CSV file", sorted(strangers))
    return {
      split: [(name, root / name) for name in names] for split, names in listed.items()
    }

  def load(self, path: epath.Path) -> tuple[np.ndarray, dict[str, Any]]:
    try:
      frames = arrays.checked(np.asarray(torch_file.read(str(path))))
    except UserError as error:
      raise Unreadable(str(error).removeprefix(f"{path}: ")) from error
    coords = path.with_name(f"{path.stem.replace('video', 'coords')}.npy")
    try:
      position = arrays.load_npy(coords)
    except Unreadable as error:
      raise Unreadable(f"{coords.name}: {error}") from error
    if position.ndim != 2 or position.shape[1] < 2 or len(position) < len(frames):
      raise Unreadable(
        f"{coords.name}: expected [{len(frames)}, 2 or more], found"
        f" {list(position.shape)}"
      )
    return frames, {"position": position[: len(frames), :2].astype(np.float32)}


def _listed(root: epath.Path, file: str) -> list[str]:
  """Lists the names of the videos in a CSV file, in order."""
  path = root / file
  if not path.exists():
    raise folder.missing(path, "a list of videos")
  matches = map(_LISTED.search, tables.read_text(path).splitlines())
  names = [match[1] for match in matches if match]
  if not names:
    raise folder.missing(path, "lines that end in the name of a .pt file")
  return names
