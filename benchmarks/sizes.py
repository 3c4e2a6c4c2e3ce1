"""The networks and batches that the benchmarks of programs measure, by name."""

import dataclasses
import json
from typing import Any

from vdm_jax import configs
from vdm_jax.configs import common

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

# `benchmarks/accelerator.py`: the papers' networks and shapes in the dtype of their
# configs, and videos a device of 80 GB. FDM's config makes activations again in the
# backward pass for chips of 16 GB; here nothing is made again.
PAPERS: dict[str, tuple[str, dict[str, Any], int]] = {
  "vdm": ("vdm_ucf101", {}, 4),
  "fdm": ("fdm_gqn_mazes", {"model.remat": "none"}, 8),
  "ramvid": ("ramvid_kinetics600", {}, 8),
  "rvd": ("rvd_bair", {}, 16),
}
# The network that PyTorch's is compared with, per device too.
SHARED = Size(16, 64, 3, 8, 64, (1, 2, 4, 8), 2, (32, 16, 8))
PAPER_SAMPLER_STEPS = 8
# Cut for a CPU, where only that it runs is of interest.
_SMALL_FRAME = {"data.frame_shape": (16, 16, 3)}
_SMALL_UNET = {
  "model.channels": 32,
  "model.channel_mults": (1,),
  "model.blocks": 1,
  "model.attention_resolutions": (16,),
}
SMOKE: dict[str, dict[str, Any]] = {
  "vdm": {
    **_SMALL_FRAME,
    **_SMALL_UNET,
    "model.head_dim": 16,
    "model.embedding_dim": 64,
    "task.num_frames": 2,
    "task.num_images": 1,
  },
  "fdm": {**_SMALL_FRAME, **_SMALL_UNET, "task.max_frames": 3},
  "ramvid": {
    **_SMALL_FRAME,
    **_SMALL_UNET,
    "task.num_frames": 3,
    "task.max_observed": 2,
  },
  "rvd": {
    **_SMALL_FRAME,
    "model.channels": 8,
    "model.channel_mults": (1, 2),
    "model.predictor_mults": (1, 2),
    "task.num_frames": 3,
  },
}
SMOKE_SHARED = Size(2, 16, 3, 2, 16, (1, 2), 1, (8,))
SMOKE_BATCH = 2


def names() -> list[str]:
  """Lists everything that `benchmarks/train_step.py` can measure."""
  return [*SYSTEMS, *SIZES]


def config(name: str) -> dict[str, Any]:
  """Returns the config of one of `names`."""
  if name in SIZES:
    return config_of(SIZES[name])
  file, changes = SYSTEMS[name]
  if not name.endswith("-demo"):
    changes = {**changes, "train.batch_size": SYSTEM_BATCH}
  found = _changed(file, {**changes, "sampling.steps": SAMPLER_STEPS})
  found["dtype"] = "float32"
  return found


def paper(name: str, smoke: bool = False) -> dict[str, Any]:
  """Returns the config of a row of `PAPERS` or of 'shared', with one device's batch.

  Args:
    name: name of the row.
    smoke: whether to cut it to fit a CPU.
  """
  if name == "shared":
    found = config_of(shared(smoke))
    found["dtype"] = "bfloat16"
    found["sampling"].update(steps=PAPER_SAMPLER_STEPS)
    return found
  file, changes, batch = PAPERS[name]
  changes = {
    **changes,
    **(SMOKE[name] if smoke else {}),
    "train.batch_size": SMOKE_BATCH if smoke else batch,
    "sampling.steps": 2 if smoke else PAPER_SAMPLER_STEPS,
  }
  return _changed(file, changes)


def shared(smoke: bool = False) -> Size:
  """Returns the size of the network that both sides of `accelerator.py` have."""
  return SMOKE_SHARED if smoke else SHARED


def _changed(file: str, changes: dict[str, Any]) -> dict[str, Any]:
  """Returns the config of a file with other values of 'section.field' names."""
  found = json.loads(configs.get(file).to_json_best_effort())
  for key, value in changes.items():
    section, field = key.split(".")
    found[section][field] = value
  return found


def config_of(size: Size) -> dict:
  """Returns our config for a size, with common.py's defaults for the rest."""
  config = json.loads(common.base().to_json_best_effort())
  config["dtype"] = "float32"
  shape = (size.pixels, size.pixels, size.channels)
  config["data"].update(frame_shape=shape, num_threads=2, prefetch_mb=64)
  config["task"] = common.unconditional(num_frames=size.frames).to_dict()
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
