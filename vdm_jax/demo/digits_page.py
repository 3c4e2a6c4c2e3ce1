"""report.html of the demo, one file with all videos and numbers."""

import html
import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from vdm_jax.data import video
from vdm_jax.demo import digit_clips, digits
from vdm_jax.report import document

FPS = 6.0


def strip(videos: np.ndarray, gap: int = 1) -> np.ndarray:
  """Lays clips uint8 [N, T, H, W, C] side by side, with gaps, in one video."""
  rim = ((0, 0), (0, 0), (gap, gap), (gap, 0), (0, 0))
  row = np.concatenate(list(np.pad(videos, rim, constant_values=127)), axis=2)
  return np.pad(row, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=127)


def of_digit(clips: digit_clips.Clips, digit: int, count: int) -> np.ndarray:
  """Selects the first clips of a digit, or fewer if there are no more."""
  return clips.videos[clips.labels == digit][:count]


def write(
  path: epath.PathLike,
  results: Mapping[str, Any],
  *,
  clips: Mapping[str, digit_clips.Clips],
  loss_png: epath.PathLike,
  workdir: str,
  shown: int,
) -> None:
  """Writes the report.

  Args:
    path: path of the HTML file.
    results: results of the demo, see `steps.run`.
    clips: columns of videos, by their heading.
    loss_png: path of the loss curve.
    workdir: workdir of the diffusion model, for the commands.
    shown: number of clips of each digit in a column.
  """
  page_of_run = f"{epath.Path(workdir).name}/report.html"
  run, accuracy = results["run"], results["classifier"]["accuracy"]
  parts = [
    "<h1>Moving digits: what the model has learnt</h1>",
    document.paragraph(
      f"A class-conditional video diffusion model, trained for {run['steps']:,} steps "
      f"({run['train_seconds'] / 60:.1f} minutes, {run['devices']}) on "
      f"{run['data']}. Every video below on the left was made from noise, given only "
      "the digit to show.",
    ),
    "<h2>Videos</h2>",
    _films(clips, shown),
    document.paragraph(
      "The videos are the first of each digit, not a selection. The real digits shown "
      "were written by hand; no model has seen them.",
      "note",
    ),
    "<h2>Numbers</h2>",
    document.table(digit_clips.cells(results)),
    document.paragraph(
      "Frames are read by a small classifier trained on the training digits "
      f"alone; it reads {accuracy['test']:.1%} of the unseen test digits right. Every "
      f"column is compared with {results['reference']['clips']} real clips of the test "
      "split; the Fréchet distance is that of the classifier's features. The two real "
      "columns show what a perfect model would get: unseen digits if it made up new "
      "handwriting, training digits if it only knew those it was trained on. "
      "± is one standard error over clips.",
      "note",
    ),
    "<h2>Loss</h2>",
    f'<img alt="Loss curve" src="{_address(loss_png, "image/png")}">',
    f'<p class="note">All curves and the config: <a href="{html.escape(page_of_run)}">'
    f"{html.escape(page_of_run)}</a></p>",
    "<h2>Sample more</h2>",
    _commands(workdir),
    "<h2>Facts</h2>",
    _facts(results),
  ]
  document.write(path, "vdm_jax demo", parts)


def _films(clips, shown) -> str:
  scale = max(1, round(64 / next(iter(clips.values())).videos.shape[2]))
  head = "".join(f"<th>{html.escape(name)}</th>" for name in clips)
  rows = []
  for digit in range(digits.NUM_CLASSES):
    cells = [f"<td>{digit}</td>"]
    for name, these in clips.items():
      chosen = of_digit(these, digit, shown)
      source = gif(strip(chosen), scale)
      words = f"{name}, digit {digit}"
      cells.append(f'<td><img alt="{html.escape(words)}" src="{source}"></td>')
    rows.append(f"<tr>{''.join(cells)}</tr>")
  return (
    f'<table class="films"><thead><tr><th></th>{head}</tr></thead>'
    f"<tbody>{''.join(rows)}</tbody></table>"
  )


def _commands(workdir: str) -> str:
  folder = html.escape(str(workdir))
  return (
    f"<pre>vdm-jax sample --workdir={folder} --label=3 --guidance=2 --num_videos=16 "
    f"--out={folder}-threes\n"
    f"vdm-jax status {folder}\n"
    f"vdm-jax demo --out={html.escape(str(epath.Path(workdir).parent))} --seconds=1800"
    "   # resumes, up to half an hour in all</pre>"
  )


def _facts(results) -> str:
  run = results["run"]
  settings = {k: v for k, v in run["sampling"].items() if v not in (0.0, "", None)}
  facts = {
    "Parameters": f"{run['parameters']:,}",
    "Training": f"{run['steps']:,} steps of {run['batch_size']} clips, "
    f"{run['train_seconds']:.0f} s",
    "Window": f"{run['window']} frames",
    "Sampling": ", ".join(f"{key} {value}" for key, value in settings.items())
    + f"; averaged weights {run['ema']}",
    "Devices": run["devices"],
    "Time, this time": ", ".join(
      f"{name} {seconds:g} s" for name, seconds in results["seconds"].items()
    ),
    "Versions": f"vdm_jax {run['vdm_jax']}, jax {run['jax']}",
  }
  raw = html.escape(json.dumps(results, indent=1))
  return (
    f"{document.facts(facts)}<details><summary>results.json</summary>"
    f"<pre>{raw}</pre></details>"
  )


def gif(clip: np.ndarray, scale: int, fps: float = FPS) -> str:
  """Encodes a clip uint8 [T, H, W, C] as the URL of an image inside the page."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "clip.gif"
    video.write_gif(path, clip, fps=fps, scale=scale)
    return _address(path, "image/gif")


def _address(path: epath.PathLike, kind: str) -> str:
  return document.data_address(epath.Path(path).read_bytes(), kind)
