"""A tiny world for tests of walks: frames whose colour says where they were seen."""

import json
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

from tests.helpers import load_config
from vdm_jax.data import records

BOUNDS = (-8.0, 0.0, 24.0, 16.0)
WALLS = ((8.0, 0.0, 8.0, 6.0),)
FPS, LENGTH, SIZE = 5.0, 24, 8


class Places(records.ChunkBuilder):
  """Straight walks that turn back at the borders."""

  VERSION = tfds.core.Version("1.0.0")

  def frame_shape(self):
    return (SIZE, SIZE, 3)

  def extras(self):
    return {"pose": records.Extra((3,))}

  def extra_metadata(self):
    return {"map": {"bounds": list(BOUNDS), "walls": [list(wall) for wall in WALLS]}}

  def videos(self):
    counts = {"train": 48, "validation": 4, "test": 6}
    return {
      split: _videos(np.random.default_rng(seed), count)
      for seed, (split, count) in enumerate(counts.items())
    }


def _videos(rng: np.random.Generator, count: int) -> Iterator[records.Video]:
  for number in range(count):
    xy = walk(rng)
    yield records.Video(
      frames=frames_of(xy),
      name=str(number),
      fps=FPS,
      extra={"pose": np.concatenate([xy, np.zeros((LENGTH, 1))], 1)},
    )


def walk(rng: np.random.Generator) -> np.ndarray:
  """Positions [T, 2] at about 0.8 units a frame."""
  low, high = np.reshape(BOUNDS, (2, 2))
  angle = rng.uniform(0, 2 * np.pi)
  steps = np.outer(np.arange(LENGTH), 0.8 * np.array([np.cos(angle), np.sin(angle)]))
  span = high - low
  # A reflection at both borders is a triangle wave.
  return low + span - np.abs((rng.uniform(0, span) + steps) % (2 * span) - span)


def frames_of(position: np.ndarray) -> np.ndarray:
  """uint8 [T, S, S, 3] of positions [T, 2]."""
  low, high = np.reshape(BOUNDS, (2, 2))
  x, y = ((position - low) / (high - low)).T
  colour = np.rint(255 * np.stack([x, y, 1 - x], -1)).astype(np.uint8)
  return np.broadcast_to(colour[:, None, None], (len(colour), SIZE, SIZE, 3))


def config(data_dir: str = "", **sections) -> dict:
  """A config of the regressor for this world."""
  made = load_config("position_regressor_maze")
  made["data"] |= {
    "name": "places",
    "data_dir": data_dir,
    "frame_shape": [SIZE, SIZE, 3],
    "num_threads": 1,
  }
  made["task"] |= {"num_frames": 4, "stride": 3}
  made["model"] |= {
    "bounds": list(BOUNDS),
    "cells": 3,
    "channels": 16,
    "channel_mults": [1, 2],
    "features": 32,
    "dropout": 0.0,
    "brightness": 0.0,
    "blur": 0.0,
  }
  for name, values in sections.items():
    made[name] |= values
  return made


def write_samples(folder, videos, given_frames, sampled_config, **record):
  """Writes a folder as `vdm-jax sample` does, without videos."""
  folder.mkdir(parents=True)
  np.savez_compressed(folder / "videos.npz", videos=videos)
  record = {"given_frames": list(given_frames), "config": sampled_config, **record}
  (folder / "record.json").write_text(json.dumps(record))
