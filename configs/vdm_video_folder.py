"""A template for your own videos; copy it and change what differs.

Put the videos in a folder, anywhere, and build a data set under a name:

    vdm-jax data build video_folder VIDEOS/ --name=mine

then

    vdm-jax train --config=configs/vdm_video_folder.py:name=mine --workdir=runs/mine

Frame size, channels and number of labels are those of the data set; frames that are
larger than a size wants are averaged down by a whole number (`data.pool`).

    --config=configs/vdm_video_folder.py:name=mine,size=small

    tiny    8 frames of 32 pixels; minutes on a CPU; the default where there is no other
    small   16 frames of 64 pixels; one GPU
    base    the same, twice as wide; one large GPU, or several; the default there
    large   UCF-101's network: 8 chips and more, with mesh.fsdp=-1, mesh.data=1

`text=minilm` trains on the captions of captions.csv (extra `minilm`). `data_dir=DIR`
says where data sets are, if not in the default place. `vdm-jax train`
refuses what cannot fit and names settings that may; `vdm-jax preflight --config=...
--local` says what a step takes. All settings are our choice.
"""

import glob
import pathlib
import runpy
import sys

from ml_collections import ConfigDict

common = runpy.run_path(str(pathlib.Path(__file__).with_name("common.py")))
SIZES = ("tiny", "small", "base", "large")
TEXT = {"": 0, "minilm": 384, "bytes": 64}  # Encoders and their width.


def get_config(arg: str | None = None) -> ConfigDict:
  asked = common["arguments"](arg, name="mine", size="", data_dir="", text="")
  size = asked["size"] or _default_size()
  if size not in SIZES:
    raise ValueError(
      f"config argument size: expected one of {', '.join(SIZES)}, found {size!r}"
    )
  if asked["text"] not in TEXT:
    raise ValueError(
      f"config argument text: expected one of {', '.join(filter(None, TEXT))}, found "
      f"{asked['text']!r}"
    )
  name = f"video_folder/{asked['name']}"
  (height, width, channels), labels = _facts(name, asked["data_dir"])
  config = common["base"]()
  if size == "tiny":
    common["small"](config, name, (height, width, channels))
  pixels = 32 if size == "tiny" else 64
  pool = max(n for n in (1, *range(2, min(height, width) // pixels + 1))
             if height % n == 0 and width % n == 0)  # fmt: skip
  config.data.update(
    dict(
      name=name,
      data_dir=asked["data_dir"],
      frame_shape=(height // pool, width // pool, channels),
      pool=pool if pool > 1 else 0,
    )
  )
  # `min_length` = (num_frames - 1) * stride + 1: shorter videos are left out.
  config.task = common["joint_images"](
    num_frames=8 if size == "tiny" else 16,
    num_images=0 if size == "tiny" else 4,
    stride=1,
    flip=True,
  )
  config.model.num_labels = labels
  config.model.token_dim = TEXT[asked["text"]]
  if asked["text"]:
    config.data.update(dict(text_encoder=asked["text"], max_tokens=32))
  config.model.dropout = 0.1  # Small data sets want more.
  config.diffusion.update(dict(predict="v", loss_space="v"))
  if size == "tiny":
    common["small_vdm"](config, channels=64)
    config.train.batch_size = 4
    return config
  config.model.channels = {"small": 64, "base": 128, "large": 256}[size]
  heights = [config.data.frame_shape[0] >> level for level in range(4)]
  config.model.attention_resolutions = tuple(n for n in heights if n <= 32)
  config.optimizer.learning_rate = 2e-4
  batch_size = {"small": 8, "base": 32, "large": 128}[size]
  config.train.update(dict(batch_size=batch_size, num_steps=200_000, ema=(0.9999,)))
  config.sampling.update(dict(sampler="ancestral", steps=256, gamma=0.1))
  config.preflight.topology = "v5e:2x4" if size == "large" else "v5e:2x2"
  return config


def _default_size() -> str:
  """Chooses tiny without an accelerator and base with one; says so."""
  found = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/accel*")
  found += glob.glob("/dev/vfio/[0-9]*")
  size = "base" if found else "tiny"
  why = f"there is {found[0]}" if found else "this machine has no GPU or TPU"
  print(
    f"vdm_video_folder: size {size}, as {why}; size=NAME chooses: {', '.join(SIZES)}",
    file=sys.stderr,
  )
  return size


def _facts(name: str, data_dir: str) -> tuple[tuple[int, int, int], int]:
  """Reads the shape of the data set's frames and its number of labels."""
  from vdm_jax.data import records
  from vdm_jax.data import source as sources

  directory = sources.locate(name, data_dir or None)
  if not records.is_built(directory):
    print(
      f"vdm_video_folder: nothing is built in {directory}: frames of 64x64x3 and no "
      "labels are assumed; data_dir=DIR beside name= says where else to look",
      file=sys.stderr,
    )
    return (64, 64, 3), 0
  source = sources.VideoSource(directory, sources.splits(directory)[-1])
  return source.frame_shape, source.num_labels
