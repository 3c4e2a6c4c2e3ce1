"""What `vdm-jax tasks-demo` does: one model, four tasks.

    OUT/
      p_0.25/           the run of the model, by the share of its training without
                        given frames; one for each that is asked for
      classifier/       the run of the digit classifier
      tasks.png         the figure: a row a task, given frames framed in green
      tasks.gif         the same as a film
      results.json      all numbers
      table.txt         the table

The tasks are prediction (the first frames given), infilling (first and last),
temporal up-sampling (every other) and generation (none). Frames that were not given
are compared with the truth, beside copies of the nearest given frame.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import experiment, sampling
from vdm_jax.data import sheet, video
from vdm_jax.data import source as sources
from vdm_jax.demo import timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import digits, forecast, frechet, image
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save

SHOWN = 3  # Clips in the figure.
GENERATION = "generation"


def places(window: int) -> dict[str, list[int]]:
  """Which frames each task is given, of a window of 4 frames or more."""
  return {
    "prediction": list(range(max(1, window // 4))),
    "infilling": [0, window - 1],
    "up-sampling": list(range(0, window, 2)),
    GENERATION: [],
  }


def run(
  config: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  rates: Sequence[float] = (),
  num_clips: int = 64,
  classifier_steps: int = 400,
) -> dict[str, Any]:
  """Trains, samples the four tasks, measures and draws.

  Args:
    config: of a model trained by `random_mask` on one moving digit, complete.
    out: folder of the demo; what it holds goes on.
    seconds: wall clock for training each model, in all.
    rates: shares of examples without given frames to train with, one model each;
      empty: that of the config. The first one is drawn.
    num_clips: test clips.
    classifier_steps: of training the digit classifier.

  Returns:
    What results.json holds.

  Raises:
    UserError: the config is not for these tasks, or `out` holds another run.
    timed.Stopped: by a signal, while training.
  """
  if config["task"]["name"] != "random_mask":
    raise UserError(
      f"config.task.name: expected 'random_mask', found {config['task']['name']!r}"
    )
  out = epath.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  dataset = config["data"]["name"]
  clock = timed.Clock()
  with clock("build the data"):
    sources.ensure_built(dataset, config["data"]["data_dir"] or None)
  with clock("train the classifier"):
    reader, result = digits.train(
      dataset, out / "classifier", num_steps=classifier_steps
    )
    timed.unless_stopped(result)

  results = {"data": dataset, "clips": num_clips, "models": {}}
  for rate in rates or [config["task"]["uncondition_rate"]]:
    task = {**config["task"], "uncondition_rate": float(rate)}
    # Films come at the end; samples on the way would take from the training.
    train = {**config["train"], "num_samples": 0}
    this = {**config, "task": task, "train": train}
    name = f"p_{float(rate):g}"
    with clock(f"train {name}"):
      timed.train(this, str(out / name), seconds, out / f"{name}.spent.json")
    with clock(f"sample {name}"):
      model = sampling.load(str(out / name))
      truth = _clips(this, model, "test", num_clips)
      sampled = sample_tasks(model, truth)
    with clock(f"measure {name}"):
      measured = measure(truth, sampled, reader)
      measured["steps"] = int(model.info["step"])
      results["models"][name] = measured
    if len(results["models"]) == 1:
      draw(out, truth, sampled)
      other = _clips(this, model, "validation", num_clips)
      results["real_against_real"] = frame_distance(reader, truth, other)
  results["seconds"] = dict(clock.seconds)
  (out / "table.txt").write_text(table(results) + "\n")
  (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
  return results


def _clips(config, model, split, count) -> np.ndarray:
  window = range(model.system.window)
  return experiment.given_clips(config, model.system, split, count, window)


def sample_tasks(model: sampling.Model, truth: np.ndarray) -> dict[str, np.ndarray]:
  """The four tasks for true clips uint8 [N, T, H, W, C]; uint8 of the same shape."""
  found = {}
  for name, given in places(truth.shape[1]).items():
    clips = to_float(truth[:, given]) if given else None
    found[name] = to_uint8(
      model.sample(
        len(truth),
        given=clips,
        given_frames=given,
        plan="fill",
        length=truth.shape[1],
        batch_size=32,
        progress=True,
      )
    )
  return found


def nearest_given(truth: np.ndarray, given: Sequence[int]) -> np.ndarray:
  """Every frame a copy of the nearest given one, the earlier of two."""
  index = np.arange(truth.shape[1])
  nearest = np.abs(index[:, None] - np.asarray(given)).argmin(axis=1)
  return truth[:, np.asarray(given)[nearest]]


def measure(
  truth: np.ndarray, sampled: Mapping[str, np.ndarray], reader: digits.DigitReader
) -> dict[str, Any]:
  """PSNR and SSIM of the frames that were not given; for generation, the distance.

  Args:
    truth: uint8 [N, T, H, W, C].
    sampled: by task, of truth's shape.
    reader: whose features the Frechet distance of frames is of.
  """
  found = {}
  for name, given in places(truth.shape[1]).items():
    if not given:
      found[name] = {"frechet": frame_distance(reader, sampled[name], truth)}
      continue
    asked = np.setdiff1d(np.arange(truth.shape[1]), given)
    copies = nearest_given(truth, given)
    found[name] = {
      who: _similarity(clips[:, asked], truth[:, asked])
      for who, clips in (("model", sampled[name]), ("nearest given frame", copies))
    }
  return found


def _similarity(clips, truth) -> dict[str, float]:
  """Means over frames uint8 [N, T, H, W, C]."""
  x, y = clips / 255.0, truth / 255.0
  return {
    # Equal frames would make any mean infinite.
    "psnr": float(np.mean(np.minimum(image.psnr(x, y), forecast.PSNR_CAP))),
    "ssim": float(np.mean(image.ssim(x, y))),
  }


def frame_distance(reader, first: np.ndarray, second: np.ndarray) -> float:
  """Frechet distance of the frames of two sets of clips, in the reader's features."""
  features = [reader(clips)[1] for clips in (first, second)]
  return frechet.distance_of_features(*(f.reshape(-1, f.shape[-1]) for f in features))


def draw(out: epath.Path, truth: np.ndarray, sampled: Mapping[str, np.ndarray]) -> None:
  """tasks.png and tasks.gif: for some clips the truth, then a row a task."""
  rows, captions, borders = [], [], []
  length = truth.shape[1]
  for clip in range(min(SHOWN, len(truth))):
    rows.append(truth[clip])
    captions.append("truth")
    borders.append([None] * length)
    for name, given in places(length).items():
      rows.append(sampled[name][clip])
      captions.append(name)
      borders.append([sheet.OBSERVED if t in given else None for t in range(length)])
  sheet.write_contact_sheet(out / "tasks.png", rows, captions=captions, borders=borders)
  grid = save.tile(np.stack(rows))
  scale = video.visible_scale(*truth.shape[2:4])
  video.write_gif(out / "tasks.gif", grid, fps=6, scale=scale)


def table(results: Mapping[str, Any]) -> str:
  """The numbers as text."""
  lines = [
    f"{results['clips']} test clips of {results['data']}; PSNR in dB / SSIM of the "
    "frames that were not given",
    f"{'':28}{'prediction':>16}{'infilling':>16}{'up-sampling':>16}"
    f"{'generation: Frechet':>22}",
  ]

  def row(title, measured, who, distance):
    cells = [
      f"{measured[name][who]['psnr']:.2f} / {measured[name][who]['ssim']:.3f}"
      for name in measured
      if isinstance(measured[name], Mapping) and who in measured[name]
    ]
    text = "" if distance is None else f"{distance:.1f}"
    lines.append(f"{title:28}" + "".join(f"{c:>16}" for c in cells) + f"{text:>22}")

  for name, measured in results["models"].items():
    title = f"model {name}, {measured['steps']} steps"
    row(title, measured, "model", measured[GENERATION]["frechet"])
  first = next(iter(results["models"].values()))
  row("nearest given frame", first, "nearest given frame", None)
  lines.append(f"{'real against real':76}{results['real_against_real']:>22.1f}")
  return "\n".join(lines)
