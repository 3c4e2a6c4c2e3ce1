"""A template for your own videos; copy it and change what differs.

Put the videos in a folder, anywhere, and build a data set under a name:

    vdm-jax data build video_folder VIDEOS/ --name=mine

Then train:

    vdm-jax train --config=video_folder:name=mine --workdir=runs/mine

Frame size, channels, number of labels and, for FDM, the length of videos are taken from
the data set; larger frames than `size` allows are averaged down by a whole number
(`data.pool`). The argument chooses the model and its size:

    --config=video_folder:name=mine,system=fdm,size=small

    system  vdm (default): clips, with labels or captions
            fdm: any frames from any others, long videos by a plan
            ramvid: clips, with any frames given
            rvd: the next frames, one after another
    size    tiny: 8 frames of 32 pixels, ten minutes on a CPU; the default on one
            small: frames of 64 pixels; one GPU
            base: wider; one large GPU, or several; the default with an accelerator
            large: the network of the paper; 8 chips and more

`minutes=60` trains for that time, whatever the size, and lets the learning rate decay
with time. `text=minilm` trains VDM on the captions of captions.csv (extra `minilm`).
`data_dir=DIR` names the folder of the data sets, if it is not the default. `vdm-jax
train` refuses what cannot fit and names settings that may; `vdm-jax preflight
--config=... --local` measures what a step needs. All settings are our choice.
"""

import dataclasses
import glob
import sys

from ml_collections import ConfigDict

from vdm_jax.configs import common, common_fdm, common_ramvid, common_rvd, common_vdm

SIZES = ("tiny", "small", "base", "large")
TEXT = {"": 0, "minilm": 384, "bytes": 64}  # Encoders and their width.
TINY_MINUTES = 10.0


@dataclasses.dataclass
class Facts:
  """Facts of the data set.

  Attributes:
    frame_shape: height, width and channels, as built.
    num_labels: number of classes; 0 for none.
    length: number of frames that three quarters of the videos have.
  """

  frame_shape: tuple[int, int, int] = (64, 64, 3)
  num_labels: int = 0
  length: int = 100


def get_config(arg: str | None = None) -> ConfigDict:
  asked = common.arguments(
    arg, name="mine", system="vdm", size="", minutes=0.0, data_dir="", text=""
  )
  _one_of("system", asked["system"], SYSTEMS)
  _one_of("size", asked["size"], ("", *SIZES))
  _one_of("text", asked["text"], TEXT)
  if asked["text"] and asked["system"] != "vdm":
    raise ValueError(
      "config argument text: only system=vdm reads captions, found "
      f"system={asked['system']}"
    )
  if asked["minutes"] < 0:
    raise ValueError(
      f"config argument minutes: expected a positive number, found {asked['minutes']}"
    )
  size = asked["size"] or _default_size()
  name = f"video_folder/{asked['name']}"
  facts = _facts(name, asked["data_dir"])
  height, width, channels = facts.frame_shape
  pixels = 32 if size == "tiny" else 64
  pool = max(n for n in (1, *range(2, min(height, width) // pixels + 1))
             if height % n == 0 and width % n == 0)  # fmt: skip
  facts.frame_shape = (height // pool, width // pool, channels)
  config = SYSTEMS[asked["system"]](size, name, facts)
  config.data.update(
    dict(
      name=name,
      data_dir=asked["data_dir"],
      frame_shape=facts.frame_shape,
      pool=pool if pool > 1 else 0,
    )
  )
  if asked["text"]:
    config.model.token_dim = TEXT[asked["text"]]
    config.data.update(dict(text_encoder=asked["text"], max_tokens=32))
  minutes = asked["minutes"] or (TINY_MINUTES if size == "tiny" else 0.0)
  if minutes:
    config.train.update(dict(max_seconds=60 * minutes, num_steps=10_000_000))
    config.optimizer.update(dict(decay="cosine", decay_by="time"))
  if size != "tiny":
    config.preflight.topology = "v5e:2x4" if size == "large" else "v5e:2x2"
  return config


def _vdm(size: str, name: str, facts: Facts) -> ConfigDict:
  config = common.base()
  # `min_length` = (num_frames - 1) * stride + 1: shorter videos are left out.
  config.task = common.joint_images(
    num_frames=8 if size == "tiny" else 16,
    num_images=0 if size == "tiny" else 4,
    stride=1,
    flip=True,
  )
  config.model.num_labels = facts.num_labels
  config.diffusion.update(dict(predict="v", loss_space="v"))
  if size == "tiny":  # Minutes are too few to overfit, so there is no dropout.
    common.small(config, name, facts.frame_shape)
    common_vdm.small_vdm(config, channels=32)
    config.train.batch_size = 4
    return config
  config.model.dropout = 0.1  # Small data sets need more.
  config.model.channels = {"small": 64, "base": 128, "large": 256}[size]
  heights = [facts.frame_shape[0] >> level for level in range(4)]
  config.model.attention_resolutions = tuple(n for n in heights if n <= 32)
  config.optimizer.learning_rate = 2e-4
  batch_size = {"small": 8, "base": 32, "large": 128}[size]
  config.train.update(dict(batch_size=batch_size, num_steps=200_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.1))
  return config


def _fdm(size: str, name: str, facts: Facts) -> ConfigDict:
  if size == "tiny":
    return common_fdm.fdm_small(
      name,
      frame_shape=facts.frame_shape,
      length=facts.length,
      num_obs=min(4, facts.length // 2),
      plan_names=("autoreg",),
    )
  config = common_fdm.fdm(clip_length=facts.length)
  config.model.channels = 64 if size == "small" else 128
  config.train.update(dict(batch_size=8 if size == "large" else 4, num_steps=200_000))
  config.model.remat = "block" if size == "large" else "none"
  return config


def _ramvid(size: str, name: str, facts: Facts) -> ConfigDict:
  if size == "tiny":
    return common_ramvid.ramvid_small(name, facts.frame_shape, channels=32)
  config = common_ramvid.ramvid()
  config.model.channels = {"small": 64, "base": 96, "large": 128}[size]
  batch_size = {"small": 8, "base": 16, "large": 64}[size]
  config.train.update(dict(batch_size=batch_size, num_steps=200_000))
  return config


def _rvd(size: str, name: str, facts: Facts) -> ConfigDict:
  if size == "tiny":
    return common_rvd.rvd_small(name, facts.frame_shape, channels=16)
  config = common_rvd.rvd(64)
  config.task = common_rvd.next_frame(num_frames=min(8, facts.length))
  config.model.channels = {"small": 32, "base": 48, "large": 64}[size]
  config.train.update(dict(batch_size=8 if size == "small" else 16, num_steps=200_000))
  return config


SYSTEMS = {"vdm": _vdm, "fdm": _fdm, "ramvid": _ramvid, "rvd": _rvd}


def _one_of(argument: str, value: str, known) -> None:
  if value not in known:
    raise ValueError(
      f"config argument {argument}: expected one of {', '.join(filter(None, known))}, "
      f"found {value!r}"
    )


def _default_size() -> str:
  """Chooses tiny without an accelerator and base with one, and prints why."""
  found = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/accel*")
  found += glob.glob("/dev/vfio/[0-9]*")
  size = "base" if found else "tiny"
  why = f"there is {found[0]}" if found else "this machine has no GPU or TPU"
  print(
    f"video_folder: size {size}, as {why}; size=NAME chooses: {', '.join(SIZES)}",
    file=sys.stderr,
  )
  return size


def _facts(name: str, data_dir: str) -> Facts:
  from vdm_jax.data import records
  from vdm_jax.data import source as sources

  directory = sources.locate(name, data_dir or None)
  if not records.is_built(directory):
    print(
      f"video_folder: nothing is built in {directory}: videos of 100 frames of 64x64x3 "
      "and no labels are assumed; data_dir=DIR beside name= says where else to look",
      file=sys.stderr,
    )
    return Facts()
  # The videos that a model is trained on; a folder may have others alone.
  splits = sources.splits(directory)
  split = "train" if "train" in splits else splits[0]
  source = sources.VideoSource(directory, split)
  lengths = sorted(source.lengths)
  length = int(lengths[len(lengths) // 4]) if lengths else 100
  return Facts(source.frame_shape, source.num_labels, min(length, 100))
