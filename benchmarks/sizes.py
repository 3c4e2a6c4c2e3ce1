"""What `benchmarks/train_step.py` measures: networks and batches, by name."""

import dataclasses
import json
import pathlib
import runpy
from typing import Any

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
SAMPLER_STEPS = 4  # In one call; times are of one.


@dataclasses.dataclass(frozen=True)
class Size:
  """A model and a batch.

  Attributes:
    frames, pixels, channels: of a video; frames are square.
    batch: videos.
    width: base width of the network.
    mults: width of each level, in base widths.
    blocks: of ours: residual blocks a level (theirs always has two).
    attention: of ours: heights in pixels with attention.
  """

  frames: int
  pixels: int
  channels: int
  batch: int
  width: int
  mults: tuple[int, ...]
  blocks: int
  attention: tuple[int, ...]


SIZES = {
  # For the tests: nothing to be learnt from it.
  "nano": Size(2, 16, 1, 8, 8, (1, 2), 1, (8,)),
  # The network of configs/vdm_digits.py.
  "tiny": Size(8, 16, 1, 16, 24, (1, 2, 4), 1, (8, 4)),
  "small": Size(10, 32, 3, 4, 32, (1, 2, 4), 2, (16, 8)),
  "medium": Size(10, 64, 3, 2, 64, (1, 2, 4, 8), 2, (32, 16, 8)),
}

# Every system by one of its configs: the demos' networks, and the papers' networks at
# 64x64 in a size that a CPU can train, at batch 2.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
  "vdm-demo": ("vdm_digits", {}),
  "fdm-demo": ("fdm_digits", {}),
  "ramvid-demo": ("ramvid_digits", {}),
  "rvd-demo": ("rvd_digits", {}),
  "fdm64": (
    "fdm_gqn_mazes",
    {"task.max_frames": 10, "model.channels": 64, "model.blocks": 1},
  ),
  "ramvid64": (
    "ramvid_kinetics600",
    {"task.num_frames": 8, "model.channels": 64, "model.blocks": 1},
  ),
  "rvd64": ("rvd_bair", {"task.num_frames": 4}),
}
SYSTEM_BATCH = 2  # Of those that are no demo's.


def names() -> list[str]:
  """Everything that can be measured."""
  return [*SYSTEMS, *SIZES]


def config(name: str) -> dict[str, Any]:
  """The config of a name."""
  if name in SIZES:
    return config_of(SIZES[name])
  file, changes = SYSTEMS[name]
  found = runpy.run_path(str(CONFIGS / f"{file}.py"))["get_config"]()
  found = json.loads(found.to_json_best_effort())
  found["dtype"] = "float32"
  if not name.endswith("-demo"):
    changes = {**changes, "train.batch_size": SYSTEM_BATCH}
  for key, value in changes.items():
    section, field = key.split(".")
    found[section][field] = value
  found["sampling"].update(steps=SAMPLER_STEPS)
  return found


def config_of(size: Size) -> dict:
  """A config of ours for a size, with common.py's defaults for the rest."""
  common = runpy.run_path(str(CONFIGS / "common.py"))
  config = json.loads(common["base"]().to_json_best_effort())
  config["dtype"] = "float32"
  shape = (size.pixels, size.pixels, size.channels)
  config["data"].update(frame_shape=shape, num_threads=2, prefetch_mb=64)
  config["task"] = common["unconditional"](num_frames=size.frames).to_dict()
  config["model"].update(
    channels=size.width,
    channel_mults=size.mults,
    blocks=size.blocks,
    attention_resolutions=size.attention,
    head_dim=size.width,
    embedding_dim=4 * size.width,  # As theirs.
    mlp_layers=2,
  )
  config["train"].update(batch_size=size.batch, num_steps=1000)
  config["sampling"].update(steps=SAMPLER_STEPS)
  return config
