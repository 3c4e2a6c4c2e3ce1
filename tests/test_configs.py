"""Configs: they load from anywhere, have one schema and the paper's numbers."""

import dataclasses
import json
import math
import pathlib
import re
import sys

import numpy as np
import pytest
from absl import flags
from flax import traverse_util
from ml_collections import config_flags

from tests.data import building
from vdm_jax import systems
from vdm_jax.data import video
from vdm_jax.errors import UserError
from vdm_jax.systems import sections

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
NAMES = sorted(
  path.stem for path in CONFIGS.glob("*.py") if not path.stem.startswith("common")
)
VDM = [
  name for name in NAMES
  if name.startswith("vdm_") or name in ("debug", "video_folder")
]  # fmt: skip
# Values of the configs' arguments that are not the default.
VARIANTS = [
  "vdm_bair:sampler=ancestral",
  "vdm_kinetics600:sampler=ancestral",
  "vdm_text_small:images=0",
  "vdm_text_small:images=4",
  "vdm_text_large:frameskip=4",
  "video_folder:name=other,size=tiny",
  "video_folder:size=small,minutes=30",
  "video_folder:size=large",
  "video_folder:size=tiny,text=minilm",
  "vdm_digits_cascade:stage=upper",
]

# Explains the fields of its network itself.
OWN = "position_regressor_maze"

SCHEMA = {
  "system": str,
  "seed": int,
  "dtype": str,
  "data": {
    "name": str,
    "data_dir": str,
    "frame_shape": tuple,
    "pool": int,
    "num_threads": int,
    "prefetch_mb": int,
    "text_encoder": str,
    "max_tokens": int,
  },
  "task": dict,
  "model": {
    "channels": int,
    "channel_mults": tuple,
    "blocks": int,
    "attention_resolutions": tuple,
    "head_dim": int,
    "embedding_dim": int,
    "mlp_layers": int,
    "dropout": float,
    "num_labels": int,
    "token_dim": int,
    "patch": int,
    "conv_time": bool,
    "cond_drop": float,
    "remat": str,
    "attention": str,
    "time_attention": str,
  },
  "diffusion": {
    "schedule": str,
    "logsnr_min": float,
    "logsnr_max": float,
    "logsnr_shift": float,
    "predict": str,
    "loss_space": str,
    "weighting": str,
    "norm": str,
    "given_noise": float,
  },
  "optimizer": {
    "name": str,
    "learning_rate": float,
    "b1": float,
    "b2": float,
    "eps": float,
    "weight_decay": float,
    "warmup_steps": int,
    "decay": str,
    "decay_by": str,
    "decay_begin": int,
    "decay_rate": float,
    "decay_floor": float,
    "clip_norm": float,
  },
  "train": {
    "batch_size": int,
    "num_steps": int,
    "max_seconds": float,
    "accumulate": int,
    "ema": tuple,
    "log_every": int,
    "eval_every": int,
    "eval_batches": int,
    "eval_fvd_every": int,
    "eval_fvd_clips": int,
    "best_by": str,
    "sample_every": int,
    "num_samples": int,
    "checkpoint_every": int,
    "keep_last": int,
    "keep_every": int,
    "max_bad_steps": int,
  },
  "mesh": {"data": int, "fsdp": int, "gather": str, "rules": tuple},
  "sampling": {
    "sampler": str,
    "steps": int,
    "respacing": str,
    "gamma": float,
    "eta": float,
    "langevin_delta": float,
    "threshold": str,
    "percentile": float,
    "guidance": float,
    "method": str,
    "reconstruction_weight": float,
    "super_resolution_weight": float,
    "resample": int,
    "restore_given": bool,
  },
  "plan": dict,
  "preflight": {"topology": str},
}
TASKS = {
  "joint_images": {
    "name": str,
    "num_frames": int,
    "num_images": int,
    "stride": int,
    "flip": bool,
  },
  "unconditional": {"name": str, "num_frames": int, "stride": int, "flip": bool},
}

# The table of hyperparameters of Ho et al. 2022, a row per column of theirs.
# fmt: off
FIELDS = [
  "model.channels", "model.channel_mults", "model.blocks",
  "model.attention_resolutions", "model.head_dim", "model.embedding_dim",
  "model.mlp_layers", "diffusion.logsnr_min", "diffusion.logsnr_max", "task.num_frames",
  "data.frame_shape", "task.stride", "diffusion.predict", "task.num_images",
  "optimizer.b1", "optimizer.b2", "optimizer.learning_rate", "optimizer.weight_decay",
  "model.dropout", "train.batch_size", "train.num_steps", "train.ema", "task.flip",
  "sampling.sampler", "sampling.steps", "sampling.gamma",
  "sampling.reconstruction_weight",
]
PAPER = {
  "vdm_ucf101": (
    256, (1, 2, 4, 8), 2, (8, 16, 32), 64, 1024, 4, -20, 20, 16, (64, 64, 3), 1,
    "eps", 8, 0.9, 0.99, 3e-4, 0, 0.1, 128, 60_000, (0.9999,), False,
    "ancestral", 256, 0.1, 0),
  "vdm_bair": (
    128, (1, 2, 3, 4), 3, (8, 16, 32), 64, 1024, 2, -20, 20, 16, (64, 64, 3), 1,
    "v", 8, 0.9, 0.999, 2e-4, 0.01, 0.1, 128, 660_000, (0.999,), True,
    "langevin", 256, 0.0, 50),
  "vdm_kinetics600": (
    256, (1, 2, 4, 8), 2, (8, 16, 32), 64, 1024, 2, -20, 20, 16, (64, 64, 3), 1,
    "v", 8, 0.9, 0.99, 2e-4, 0, 0.1, 256, 220_000, (0.9999,), False,
    "langevin", 128, 0.0, 9),
  "vdm_text_small": (
    128, (1, 2, 4, 8), 2, (8, 16, 32), 64, 1024, 4, -20, 20, 16, (64, 64, 3), 1,
    "eps", 8, 0.9, 0.99, 3e-4, 0, 0, 128, 200_000, (0.9999,), False,
    "ancestral", 256, 0.3, 0),
  "vdm_text_large": (
    256, (1, 2, 4, 8), 2, (8, 16, 32), 64, 1024, 4, -20, 20, 16, (64, 64, 3), 1,
    "eps", 8, 0.9, 0.99, 3e-4, 0, 0, 128, 700_000, (0.9999,), False,
    "ancestral", 256, 0.3, 0),
  "vdm_text_128": (
    128, (1, 2, 4, 8, 16), 2, (8, 16, 32), 128, 1024, 4, -20, 20, 9, (128, 128, 3), 1,
    "eps", 7, 0.9, 0.99, 2e-4, 0, 0, 128, 800_000, (0.9999,), False,
    "ancestral", 256, 0.3, 0),
}
# fmt: on
CHIPS = {
  "vdm_ucf101": 128,
  "vdm_bair": 128,
  "vdm_kinetics600": 256,
  "vdm_text_small": 64,
  "vdm_text_large": 128,
  "vdm_text_128": 128,
}


def load(name: str):
  """A config as the command line loads it, from its file's path."""
  stem, colon, arg = name.partition(":")
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  values(["vdm-jax", f"--config={CONFIGS / stem}.py{colon}{arg}"])
  return values.config


def check_schema(config, schema, path="config"):
  assert set(config) == set(schema), path
  for key, kind in schema.items():
    if isinstance(kind, dict):
      check_schema(config[key], kind, f"{path}.{key}")
    elif kind is not dict:
      assert type(config[key]) is kind, f"{path}.{key}: {config[key]!r}"


def chips(topology: str) -> int:
  return math.prod(int(side) for side in topology.partition(":")[2].split("x"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """No config may depend on the working directory."""
  monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", VDM + VARIANTS)
def test_schema(name):
  config = load(name)
  check_schema(config, SCHEMA)
  check_schema(config.task, TASKS[config.task.name], "config.task")


def test_the_common_files_name_every_field():
  text = "".join(path.read_text() for path in CONFIGS.glob("common*.py"))
  known = set(re.findall(r"\w+", text))
  named = {field.name for field in dataclasses.fields(sections.Diffusion)}
  for name in set(NAMES) - {OWN}:
    config = load(name).to_dict()
    named |= set(traverse_util.flatten_dict(config, keep_empty_nodes=True, sep="."))
  assert {name for name in named if name.split(".")[-1] not in known} == set()
  assert len(named) > 100


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
@pytest.mark.parametrize("system", ["fdm", "ramvid", "rvd"])
def test_the_template_has_every_system(system, size):
  config = load(f"video_folder:system={system},size={size}")
  built = systems.build(json.loads(config.to_json_best_effort()))
  assert config.system == system and config.data.name == "video_folder/mine"
  spec = built.batch_spec(config.train.batch_size)
  assert spec["video"].shape[2:] == config.data.frame_shape
  assert bool(config.train.max_seconds) == (size == "tiny")


@pytest.mark.parametrize("name", VDM + VARIANTS)
def test_describes_a_system(name):
  config = load(name)
  system = systems.build(config.to_dict())
  spec = system.batch_spec(config.train.batch_size)
  assert spec["video"].shape[2:] == config.data.frame_shape
  assert ("label" in spec["cond"]) == bool(config.model.num_labels)
  assert ("tokens" in spec["cond"]) == bool(config.model.token_dim)
  # One device a chip.
  assert config.train.batch_size % chips(config.preflight.topology) == 0


@pytest.mark.parametrize("name", PAPER)
def test_paper_numbers(name):
  config = load(name)
  found = {}
  for field in FIELDS:
    section, key = field.split(".")
    found[field] = config[section][key]
  assert found == dict(zip(FIELDS, PAPER[name], strict=True))
  assert config.diffusion.loss_space == config.diffusion.predict
  assert chips(config.preflight.topology) == CHIPS[name]
  # Adam has no weight decay: the name must agree.
  assert (config.optimizer.name == "adamw") == bool(config.optimizer.weight_decay)


def test_arguments_reach_the_config():
  assert load("vdm_text_small:images=0").task.num_images == 0
  assert load("vdm_text_large:frameskip=4").task.stride == 4
  assert load("vdm_bair:sampler=ancestral").sampling.steps == 512
  assert load("vdm_kinetics600:sampler=ancestral").sampling.steps == 256
  assert load("video_folder:name=other").data.name == "video_folder/other"


def test_the_template_reads_the_data_set_that_was_built(tmp_path):
  films = tmp_path / "films"
  for label in ("cats", "dogs"):
    for number in range(2):
      (films / label).mkdir(parents=True, exist_ok=True)
      frames = np.random.default_rng(number).integers(0, 256, (20, 96, 96, 3), np.uint8)
      video.write_gif(films / label / f"{number}.gif", frames, fps=8)
  building.build(
    "video_folder/mine", films, tmp_path / "data", image_size=96,
    label_folders=True,
  )  # fmt: skip
  where = f"name=mine,data_dir={tmp_path / 'data'}"
  tiny = load(f"video_folder:{where},size=tiny")
  assert (tiny.data.frame_shape, tiny.data.pool) == ((32, 32, 3), 3)
  assert tiny.model.num_labels == 2
  assert tiny.train.max_seconds == 600 and tiny.optimizer.decay_by == "time"
  fdm = load(f"video_folder:{where},size=tiny,system=fdm")
  assert fdm.task.length == 20  # As the videos.
  base = load(f"video_folder:{where},size=base")
  assert (base.data.frame_shape, base.data.pool) == ((96, 96, 3), 0)
  for config in (tiny, fdm, base):
    systems.build(json.loads(config.to_json_best_effort()))


def test_the_template_has_the_length_of_training_videos(tmp_path):
  films = tmp_path / "films"
  for split, length in (("train", 12), ("validation", 6)):
    (films / split).mkdir(parents=True)
    frames = np.random.default_rng(0).integers(0, 256, (length, 32, 32, 3), np.uint8)
    video.write_gif(films / split / "film.gif", frames, fps=8)
  building.build("video_folder/mine", films, tmp_path / "data", image_size=32)
  where = f"name=mine,data_dir={tmp_path / 'data'}"
  assert load(f"video_folder:{where},size=tiny,system=fdm").task.length == 12


def test_the_templates_size_is_that_of_the_machine(monkeypatch, capsys):
  monkeypatch.setattr("glob.glob", lambda pattern: [])
  assert load("video_folder").model.patch == 2
  assert "size tiny, as this machine has no GPU or TPU" in capsys.readouterr().err
  monkeypatch.setattr(
    "glob.glob", lambda pattern: ["/dev/nvidia0"] if "nvidia" in pattern else []
  )
  assert load("video_folder").train.batch_size == 32
  assert "size base, as there is /dev/nvidia0" in capsys.readouterr().err
  assert load("video_folder:size=large").model.channels == 256


@pytest.mark.parametrize(
  "name",
  [
    "video_folder:size=huge",
    "video_folder:system=gan",
    "video_folder:minutes=-1",
    "video_folder:system=rvd,text=minilm",
    "vdm_bair:sampler=magic",
    "vdm_text_small:image=4",
    "vdm_text_small:images=x",
  ],
)
def test_wrong_argument_is_named(name):
  with pytest.raises(flags.IllegalFlagValueError, match="config argument"):
    load(name)


def test_fields_can_be_set_on_the_command_line(monkeypatch):
  argv = [
    "vdm-jax",
    f"--config={CONFIGS / 'debug.py'}",
    "--config.model.channel_mults=(1, 2, 2)",
    "--config.train.max_seconds=60",
    "--config.train.ema=()",
  ]
  monkeypatch.setattr(sys, "argv", argv)  # Where ml_collections looks for fields.
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", flag_values=values)
  values(argv)
  assert values.config.model.channel_mults == (1, 2, 2)
  assert values.config.train.max_seconds == 60.0
  assert values.config.train.ema == ()


def test_configs_do_not_share_state():
  first, second = load("debug"), load("debug")
  first.task.num_frames = 99
  assert second.task.num_frames != 99


@pytest.mark.parametrize("paper", ["vdm", "fdm", "ramvid", "rvd"])
@pytest.mark.parametrize("section", ["model", "diffusion"])
def test_a_field_that_no_one_reads_is_refused(paper, section):
  config = json.loads(load(f"{paper}_digits").to_json_best_effort())
  config[section]["predicts"] = 1
  with pytest.raises(UserError, match=f"unknown field of config.{section} 'predicts'"):
    systems.build(config)
