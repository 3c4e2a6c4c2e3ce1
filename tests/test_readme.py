"""Every command of the README runs, in its order, on small models and data.

CI itself runs `make demo` and `make test`; the others run here as written, except for
what TINY adds or replaces.
"""

import importlib.util
import re
import shlex
import shutil

import numpy as np
import pytest

from tests import pages
from vdm_jax.data import video

HAS_TORCH = importlib.util.find_spec("torch") is not None
ROOT = pages.ROOT

# What a command gets so that it ends within seconds, by its first words.
TINY = {
  "vdm-jax sample --workdir=runs/maze_demo/train": ["--steps=2", "--length=60"],
  "vdm-jax sample": ["--steps=2", "--num_videos=1"],
  "vdm-jax data build": ["--image_size=12", "--validation=0.4", "--test=0"],
  "vdm-jax data list": [],
  "vdm-jax data show": ["--task_option=num_frames=4", "--count=2"],
  "vdm-jax train": [
    "--config.data.frame_shape=(12,12,3)", "--config.dtype=float32",
    "--config.task.num_frames=4",
    "--config.model.channels=8", "--config.model.channel_mults=(1,2)",
    "--config.model.blocks=1", "--config.model.attention_resolutions=(6,)",
    "--config.model.head_dim=8", "--config.model.embedding_dim=16",
    "--config.train.batch_size=4", "--config.train.num_steps=2",
    "--config.train.eval_batches=1", "--config.train.num_samples=0",
  ],
  "vdm-jax plan list": [],
  "vdm-jax plan show": [],
  "vdm-jax import": ["--dry_run"],
  "vdm-jax eval": ["--num_clips=1", "--members=2", "--sampling=steps=2"],
  "vdm-jax status": [],
  "vdm-jax report": [],
  "vdm-jax export": [],
  "vdm-jax doctor": [],
  "vdm-jax preflight": [],
}  # fmt: skip
RUN_BY_CI = {
  "make demo", "make test", "make tasks-demo", "make forecast-demo", "make long-demo",
  "make cascade-demo",
  "source .venv/bin/activate",
}  # fmt: skip


def commands():
  """The README's commands."""
  return pages.commands(ROOT / "README.md")


def prefix(command):
  found = [p for p in TINY if command == p or command.startswith(p + " ")]
  assert found, f"README: {command!r} is run by no test"
  return found[0]


def test_every_command_is_known_to_a_test_or_to_ci():
  for command in commands():
    if command not in RUN_BY_CI:
      prefix(command)
  ci = (ROOT / ".ci" / "run").read_text()
  assert all(command in ci for command in RUN_BY_CI if command.startswith("make"))


def test_every_link_leads_somewhere():
  elsewhere = (
    "README.md",
    "CONTRIBUTING.md",
    "launch/README.md",
    "benchmarks/README.md",
  )
  for page in [*map(ROOT.joinpath, elsewhere), *(ROOT / "docs").rglob("*.md")]:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
      assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A newcomer's folder: configs, clips, and a demo run made small."""
  folder = tmp_path_factory.mktemp("readme")
  shutil.copytree(ROOT / "configs", folder / "configs")
  rng = np.random.default_rng(0)
  for i in range(8):
    clip = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
    path = folder / "clips" / f"{i}.{'gif' if i % 2 else 'mp4'}"
    path.parent.mkdir(exist_ok=True)
    video.write_video(path, clip)
  # Guided by default, as the demo's model is.
  guided = "--config.sampling.guidance=1.0"
  tiny_run(folder, "debug", "runs/demo/train", guided)
  data = "moving_digits/12px_1digit_40frames_8digitpx_64videos"
  shared = [f"--config.data.name={data}", "--config.data.frame_shape=(12,12,1)"]
  tiny_run(
    folder, "fdm_maze_small", "runs/maze_demo/train", *shared,
    "--config.model.channel_mults=(1,)", "--config.model.attention_resolutions=(6,)",
    "--config.task.max_frames=4", "--config.task.options.step_size=2",
    "--config.task.length=40",
    "--config.plan.max_frames=4", "--config.plan.step_size=2",
  )  # fmt: skip
  tiny_run(
    folder, "rvd_digits", "runs/forecast_demo/residual", *shared,
    "--config.model.channels=8", "--config.model.channel_mults=(1,2)",
    "--config.model.predictor_mults=(1,2)", "--config.task.num_frames=6",
  )  # fmt: skip
  if HAS_TORCH:
    published(folder / "ema_0.9999_550000.pt")
  return folder


def tiny_run(folder, config, workdir, *overrides):
  """A run of one step."""
  pages.run(
    [
      "vdm-jax", "train", f"--config=configs/{config}.py", f"--workdir={workdir}",
      "--config.train.num_steps=1", "--config.train.eval_every=0",
      "--config.train.num_samples=0", *overrides,
    ],
    folder,
  )  # fmt: skip


def published(path):
  """A file in the layout of FDM's released checkpoint, small and random."""
  import torch

  from tests.interop import published

  torch.save(published.small_fdm().contents, path)


@pytest.mark.integration
def test_the_commands_run_in_their_order(folder):
  for command in commands():
    if command in RUN_BY_CI or (command.startswith("vdm-jax import") and not HAS_TORCH):
      continue
    pages.run([*shlex.split(command), *TINY[prefix(command)]], folder)
  for path in (
    "runs/threes/sheet.gif", "runs/long/videos.npz", "runs/continued/record.json",
    "runs/look", "runs/scheme.png", "runs/walk/videos.npz",
    "runs/mine/metrics.jsonl", "runs/mine/report.html", "runs/mine.safetensors",
    "runs/forecast/results.json",
  ):  # fmt: skip
    assert (folder / path).exists(), path


@pytest.mark.integration
def test_the_python_way_runs(folder, monkeypatch):
  code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
  monkeypatch.chdir(folder)
  # The debug model is smaller than the demo's: 4 frames of 12x12.
  scope = {}
  exec(code.group(1).replace("guidance=2.0", "guidance=2.0, steps=2"), scope)
  assert scope["videos"].shape == (4, 4, 12, 12, 1)
