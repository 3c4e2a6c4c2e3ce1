"""First-person walks through a textured maze, rendered by ViZDoom: long videos.

By default all videos are walks through one maze, as CARLA Town01's are drives through
one town, so that a model can learn the place. With `fixed=False` every video has its
own maze, as in GQN-Mazes, so that a model must remember what it was shown. Each frame
comes with the pose that it was taken from.

Video `index` of a split depends on (options, split, index) only: the number of workers
changes only how long the build takes. It needs the extra `maze`.
"""

import dataclasses
import functools
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent import futures
from typing import ClassVar

import numpy as np

from vdm_jax.data import records
from vdm_jax.data.maze import camera
from vdm_jax.data.maze import layout as layout_lib
from vdm_jax.errors import UserError

SPLITS = ("train", "validation", "test")
_CELLS = (3, 32)  # Fewest and most cells along an axis.
_TOKENS = {
  "px": "image_size",
  "frames": "num_frames",
  "videos": "num_videos",
  "heldout": "held_out",
  "cells": "cells",
  "seed": "seed",
  "chunk": "chunk",
}


@dataclasses.dataclass(eq=False)
class MazeConfig(records.ChunkConfig):
  """Options; the config's name holds all that affect the records."""

  image_size: int = records.option(64, "height and width of a frame: 16, 32, 64 or 128")
  num_frames: int = records.option(300, "frames per video")
  num_videos: int = records.option(100, "number of training videos")
  held_out: int = records.option(0, "number of videos of each other split; 0: a tenth")
  fixed: bool = records.option(
    True, "whether all videos share one maze, or each has its own"
  )
  cells: int = records.option(6, "cells along each side of the maze, 3 to 32")
  seed: int = records.option(0, "seed of the whole data set")
  workers: int = records.option(
    0, "number of videos rendered at a time; 0: one per CPU", stored=False
  )

  def __post_init__(self):
    self.held_out = self.held_out or -(-self.num_videos // 10)
    for field in ("num_frames", "num_videos", "held_out"):
      self._require(getattr(self, field) >= 1, field, ">= 1")
    self._require(self.image_size in camera.SIZES, "image_size", "16, 32, 64 or 128")
    low, high = _CELLS
    self._require(low <= self.cells <= high, "cells", f"{low} to {high}")
    self._require(self.workers >= 0, "workers", ">= 0")
    self.name = self._canonical_name()

  def _require(self, holds: bool, field: str, expected: str) -> None:
    if not holds:
      raise UserError(
        f"maze {field}: expected {expected}, found {getattr(self, field)}"
      )

  def _canonical_name(self) -> str:
    parts = [
      f"{self.image_size}px",
      f"{self.num_frames}frames",
      f"{self.num_videos}videos",
    ]
    if self.held_out != -(-self.num_videos // 10):
      parts.append(f"{self.held_out}heldout")
    parts += ["newmazes"] * (not self.fixed)
    if self.cells != 6:
      parts.append(f"{self.cells}cells")
    if self.seed:
      parts.append(f"{self.seed}seed")
    if self.chunk != 8:
      parts.append(f"{self.chunk}chunk")
    return "_".join(parts)


class Maze(records.ChunkBuilder):
  """Walks through a textured maze, with the pose of every frame (extra `maze`)."""

  CONFIG = MazeConfig
  EMBEDDED = True
  BUILDER_CONFIGS: ClassVar = [
    MazeConfig(image_size=32, num_videos=8),
    MazeConfig(),
    MazeConfig(fixed=False),
    MazeConfig(num_frames=1000, num_videos=400),
    MazeConfig(image_size=128, num_frames=1000, num_videos=400),
  ]

  @classmethod
  def parse(cls, config_name: str, **options) -> MazeConfig:
    """Parses a name such as "64px_1000frames_20videos", with any numbers."""
    fields = {}
    for part in filter(None, config_name.split("_")):
      match = re.fullmatch(r"(\d+)([a-z]+)", part)
      if part == "newmazes":
        fields["fixed"] = False
      elif match and match[2] in _TOKENS:
        fields[_TOKENS[match[2]]] = int(match[1])
      else:
        raise UserError(
          f"maze/{config_name}: expected parts such as 64px, 300frames, 100videos,"
          f" 10heldout, newmazes, 8cells, 1seed; found {part!r}"
        )
    config = MazeConfig(**fields | options)
    # TFDS needs its own object for a config that it knows by name, unless the number
    # of workers, which is not in the name, is set.
    known = {known.name: known for known in cls.BUILDER_CONFIGS}.get(config.name)
    if known is None:
      return config
    known.workers = config.workers
    return known

  def frame_shape(self) -> tuple[int, int, int]:
    return (self.builder_config.image_size, self.builder_config.image_size, 3)

  def extras(self) -> dict[str, records.Extra]:
    # Poses have no meaning for mirrored frames, which show another maze.
    return {"pose": records.Extra((3,))}

  def extra_metadata(self):
    """Returns the map for figures, if all videos share one."""
    if not self.builder_config.fixed:
      return {}
    return {"map": fixed_layout(self.builder_config).figure()}

  def videos(self):
    camera.require()
    pool = futures.ThreadPoolExecutor(_workers(self.builder_config))
    return {split: self._videos(split, pool) for split in SPLITS}

  def _videos(self, split: str, pool: futures.Executor) -> Iterator[records.Video]:
    config = self.builder_config
    total = config.num_videos if split == "train" else config.held_out
    waiting = iter(range(total))
    jobs: deque[futures.Future] = deque()
    try:
      for index in records.progress(range(total), total=total, description=split):
        # One more than there are workers, so that none waits while records are written.
        while len(jobs) <= _workers(config) and (ahead := next(waiting, -1)) >= 0:
          jobs.append(pool.submit(generate, config, split, ahead))
        frames, poses = jobs.popleft().result()
        yield records.Video(
          frames=frames,
          name=f"{split}-{index}",
          fps=camera.FPS,
          extra={"pose": poses},
        )
    finally:
      for job in jobs:
        job.cancel()


def generate(
  config: MazeConfig, split: str, index: int
) -> tuple[np.ndarray, np.ndarray]:
  """Renders video `index` of `split`: frames and poses, as from `camera.film`."""
  rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
  layout = fixed_layout(config)
  if not config.fixed:
    layout = layout_lib.generate(config.cells, rng)
  return camera.film(
    layout, rng, num_frames=config.num_frames, image_size=config.image_size
  )


def fixed_layout(config: MazeConfig) -> layout_lib.Layout:
  """Makes the maze that all videos share if `config.fixed`."""
  return _layout(config.cells, config.seed)


@functools.lru_cache
def _layout(cells: int, seed: int) -> layout_lib.Layout:
  # A random stream that no split uses.
  return layout_lib.generate(cells, np.random.default_rng([seed, len(SPLITS)]))


def _workers(config: MazeConfig) -> int:
  return config.workers or os.cpu_count() or 1
