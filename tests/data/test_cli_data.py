"""`vdm-jax data`."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image

from tests.data import helpers
from vdm_jax.data import source as source_lib
from vdm_jax.data import video

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, data_dir) -> subprocess.CompletedProcess:
  command = [sys.executable, "-m", "vdm_jax", "data", *map(str, arguments)]
  command.append(f"--data_dir={data_dir}")
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_build_list_and_show(tmp_path):
  clips = tmp_path / "clips"
  for number in range(3):
    helpers.write(clips / "train" / f"{number}.mp4", helpers.quadrants())
  (clips / "train" / "bad.mp4").write_bytes(b"nonsense" * 100)
  (clips / "captions.csv").write_text("file,caption\n0,a flag\n1,a flag\n2,a flag\n")
  options = ["--name=flags", "--image_size=16x24", "--fps=5"]
  built = run("build", "video_folder", clips, *options, data_dir=tmp_path)
  assert built.returncode == 0, built.stderr
  assert "video_folder/flags: 16x24x3" in built.stdout
  assert "train: 3 videos of 6 frames, 0 labels, 3 captions" in built.stdout
  assert "bad.mp4: cannot be decoded" in built.stderr
  source = source_lib.load("video_folder/flags", tmp_path)
  assert source.frame_shape == (16, 24, 3)

  listed = run("list", data_dir=tmp_path)
  assert "video_folder/flags: 16x24x3" in listed.stdout
  assert "moving_digits/16px_1digit_8frames" in listed.stdout
  (facts,) = json.loads(run("list", "--json", data_dir=tmp_path).stdout)
  assert facts["name"] == "video_folder/flags" and facts["frame_shape"] == [16, 24, 3]
  train = {"videos": 3, "frames": [6, 6], "labels": 0, "captions": 3}
  assert facts["splits"] == {"train": train}

  task = ["--task=unconditional", "--task_option=num_frames=4", "--count=2"]
  out = tmp_path / "look"
  shown = run("show", "video_folder/flags", f"--out={out}", *task, data_dir=tmp_path)
  assert shown.returncode == 0, shown.stderr
  sheet = np.asarray(PIL.Image.open(out / "clips.png"))
  assert sheet.ndim == 3 and sheet.shape[0] > 2 * 16 and sheet.shape[1] > 4 * 24
  gif = video.read_video(out / "clips.gif")
  assert len(gif) == 4
  task = ["--task=random_subsets", "--task_option=max_frames=5", "--count=1"]
  shown = run("show", "video_folder/flags", f"--out={out}", *task, data_dir=tmp_path)
  assert shown.returncode == 0, shown.stderr
  assert len(video.read_video(out / "clips.gif")) == 5


def test_options_of_digits(tmp_path):
  options = ["--image_size=24", "--num_digits=1", "--num_frames=4", "--num_videos=20"]
  built = run("build", "moving_digits", *options, data_dir=tmp_path)
  assert built.returncode == 0, built.stderr
  assert "moving_digits/24px_1digit_4frames_20videos: 24x24x1" in built.stdout


MISTAKES = {
  "": "expected: vdm-jax data build NAME",
  "bild": "unknown data command 'bild'. Did you mean 'build'?",
  "build moving_digit": "Did you mean 'moving_digits'?",
  "build moving_digits --fps=3": "unknown option of data set",
  "build moving_digits --seed=x": "--seed of moving_digits: expected int, found 'x'",
  "build moving_digits a b": "expected: vdm-jax data build NAME",
  "build moving_digits clips": "takes no path, found 'clips'",
  "build video_folder": "expected the folder of the videos",
  "list x": "takes no argument, found 'x'",
  "show video_folder/none --out=x": "vdm-jax data build video_folder PATH --name=none",
  "show moving_digits": "expected: vdm-jax data build NAME",
}


def test_mistakes_are_one_line(tmp_path):
  # In a process of its own, as flags are global, but one for all: starting is slow.
  code = f"""
from absl import flags
from absl.testing import flagsaver
from vdm_jax.cli import data
from vdm_jax.errors import UserError
for line in {list(MISTAKES)!r}:
  with flagsaver.flagsaver():
    words = ["vdm-jax data", *line.split(), "--data_dir={tmp_path}"]
    try:
      data.main(flags.FLAGS(words))
    except UserError as error:
      print(error)
"""
  command = [sys.executable, "-c", code]
  result = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, timeout=120
  )
  assert result.returncode == 0, result.stderr
  found = result.stdout.splitlines()
  for line, message in zip(found, MISTAKES.values(), strict=True):
    assert message in line


def test_a_mistake_ends_the_command(tmp_path):
  result = run("bild", data_dir=tmp_path)
  assert result.returncode == 2
  assert result.stderr.startswith("vdm-jax: error: unknown data command 'bild'.")
