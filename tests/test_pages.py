"""The code of the documentation: every block runs, or a table here says why not.

Commands of the guides run as written, except for what SHORT adds. Of all commands,
flags and configs are checked. README.md and the notebooks have tests of their own.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import pages
from vdm_jax.data import video

ROOT = pages.ROOT
PAGES = sorted(
  [*(ROOT / "docs").rglob("*.md"), ROOT / "launch" / "README.md",
   ROOT / "benchmarks" / "README.md", ROOT / "CONTRIBUTING.md"]
)  # fmt: skip

# What a command of a guide gets so that it ends in seconds, by page and first words.
QUICK = ["--config.train.num_steps=2", "--config.train.num_samples=0",
         "--config.train.eval_batches=0"]  # fmt: skip
SMALL = [
  "--config.data.frame_shape=(12,12,3)", "--config.task.num_frames=4",
  "--config.model.channels=8", "--config.model.channel_mults=(1,2)",
  "--config.model.attention_resolutions=(6,)", "--config.model.head_dim=8",
  "--config.model.embedding_dim=16", "--config.train.batch_size=4",
]  # fmt: skip
SHORT = {
  "getting_started.md": {
    "vdm-jax doctor": [],
    "vdm-jax train": QUICK,
    "vdm-jax sample": ["--steps=2"],
    "vdm-jax report": [],
  },
  "own_videos.md": {
    "vdm-jax data build": ["--image_size=12", "--validation=0.4", "--test=0"],
    "vdm-jax data list": [],
    "vdm-jax data show": ["--task_option=num_frames=4", "--count=2"],
    "vdm-jax train": [*QUICK, *SMALL],
    "vdm-jax report": [],
    "vdm-jax sample": ["--steps=2"],
  },
  "add_a_paper.md": {
    "vdm-jax train": QUICK,
    "vdm-jax sample": ["--steps=2", "--num_videos=2"],
  },
}
# Commands that no test runs, by page ('*': any) and first words, and why.
NOT_RUN = {
  ("*", "make venv"): "the tests run in what it sets up",
  ("*", "source"): "the tests run in what it sets up",
  ("*", "pip install"): "installs; .ci/installed and make venv do so",
  ("*", "make"): "CI runs it",
  ("launch/README.md", ""): "clouds, clusters and GPUs; "
  "tests/launch and tests/training/test_processes.py run what each launcher ends in",
  ("results/", ""): "how a figure was made, minutes to hours; tests run its parts",
  ("data.md", ""): "data that is not here; tests/data builds each format, small",
  ("own_videos.md", "vdm-jax sample --workdir=RUN --caption"): "a run on captions; "
  "tests/sampling/test_text.py",
  ("own_videos.md", "vdm-jax train --config=video_folder:name=mine --workdir=RUN"):
  "BERT's weights are not here; tests/data/test_text.py",
  ("plans.md", ""): "tests/plans/test_command.py runs these commands, small",
  ("import.md", ""): "published files are not here; tests/interop reads such layouts",
  ("evaluation.md", ""): "tests/evaluation runs every protocol, small",
  ("training.md", ""): "tests/training/test_profile.py",
  ("vdm.md", ""): "data and chips of the paper; its config trains small in tests",
  ("fdm.md", ""): "data and chips of the paper; its config trains small in tests",
  ("ramvid.md", ""): "data and chips of the paper; its config trains small in tests",
  ("rvd.md", ""): "data and chips of the paper; its config trains small in tests",
}  # fmt: skip
# What stands for something of the reader's, so that a command is no whole one.
OPEN = re.compile(r"\.\.\.|\[|NAME|=L |gs://")
# Python blocks that are no programs, or run elsewhere, by page and first words.
NO_PROGRAM = {
  ("design.md", ""): "interfaces, in shorthand",
  ("plans.md", "# mine.py"): "tests/plans/test_names.py",
}
# What makes Python blocks quick.
QUICKER = {
  '"num_steps": 500': '"num_steps": 2, "num_samples": 0, "eval_batches": 0',
  "guidance=1.0, seed=0": "guidance=1.0, seed=0, steps=2",
}


def name(page: pathlib.Path) -> str:
  """What tables call a page: its path below docs/ or in the checkout."""
  base = ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT
  return page.relative_to(base).as_posix()


def listed(table, page: str, text: str):
  """The entry of a table that a command or block of a page falls under."""
  for (where, begins), entry in table.items():
    at = (
      where == "*" or page == where or (where.endswith("/") and page.startswith(where))
    )
    if at and text.startswith(begins):
      return entry
  return None


def extra_flags(page: str, command: str):
  """What SHORT adds to a command, None if it has none of it."""
  table = {(page, begins): flags for begins, flags in SHORT.get(page, {}).items()}
  return listed(table, page, command)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_is_run_or_has_a_reason(page):
  for command in pages.commands(page):
    reason = listed(NOT_RUN, name(page), command)
    short = extra_flags(name(page), command)
    assert reason or short is not None, f"{name(page)}: {command!r} is run by no test"


def test_every_reason_is_of_a_command():
  told = {
    key for page in PAGES for command in pages.commands(page) for key in NOT_RUN
    if listed({key: True}, name(page), command)
  }  # fmt: skip
  assert told == set(NOT_RUN)


@pytest.mark.integration
def test_flags_and_configs_are_there():
  """Parses each command's flags as the command would, without running it."""
  lines = [
    (name(page), shlex.split(command))
    for page in PAGES
    for command in pages.commands(page)
    if command.startswith("vdm-jax ") and not OPEN.search(command)
    and "runs/carla/config.py" not in command  # Of an imported run.
  ]  # fmt: skip
  assert len(lines) > 50
  done = subprocess.run(
    [sys.executable, "-m", "tests.parse_flags"],
    input=json.dumps(lines),
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A newcomer's folder: a checkout's examples, and clips."""
  folder = tmp_path_factory.mktemp("pages")
  shutil.copytree(ROOT / "examples", folder / "examples")
  rng = np.random.default_rng(0)
  (folder / "clips").mkdir()
  for i in range(8):
    clip = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
    video.write_video(folder / "clips" / f"{i}.{'gif' if i % 2 else 'mp4'}", clip)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", SHORT)
def test_the_commands_of_a_guide_run_in_their_order(page, folder):
  for command in pages.commands(ROOT / "docs" / page):
    if listed(NOT_RUN, page, command) is None:
      pages.run([*shlex.split(command), *extra_flags(page, command)], folder)


def blocks(page):
  """The Python blocks of a page that are programs, made quick, as one."""
  found = [
    block for block in pages.python_blocks(page)
    if not listed(NO_PROGRAM, name(page), block)
  ]  # fmt: skip
  text = "\n".join(found)
  for slow, quick in QUICKER.items():
    text = text.replace(slow, quick)
  return text


PROGRAMS = [
  pytest.param(page, id=name(page), marks=[pytest.mark.slow] * ("vdm.train(" in code))
  for page in PAGES
  if (code := blocks(page))
]


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_python_blocks_run(page, folder):
  done = subprocess.run(
    [sys.executable, "-c", blocks(page)],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), "VDM_JAX_DATA": str(folder / "data")},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
