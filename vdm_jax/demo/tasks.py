"""The demo `vdm-jax tasks-demo`: one model for four tasks.

    OUT/
      p_0.25/           the run of a model, by the share of its training without given
                        frames; one for each share
      classifier/       the run of the digit classifier
      tasks.png         the figure: one row per task, given frames framed in green
      tasks.gif         the same as a video
      results.json      all numbers
      table.txt         the table

The tasks are prediction (the first frames given), infilling (first and last), temporal
up-sampling (every other) and generation (none). Frames that were not given are compared
with the truth, beside baselines without learning: the nearest given frame, and a blend
of the two nearest ones. Generated frames are compared with real ones by features of a
digit classifier.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from vdm_jax import run_data, sampling, text_table
from vdm_jax.data import sheet, video
from vdm_jax.data import source as sources
from vdm_jax.demo import digits, goals, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol
from vdm_jax.metrics import frechet, image, jackknife
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save

SHOWN = 3  # Number of clips in the figure.
GENERATION = "generation"
MODEL, NEAREST, BLEND = "model", "nearest given frame", "linear blend"
# Training steps in the demo's time on two quiet cores.
USUAL_STEPS = 6800
# Clips of the untrained model, few because its distance is large anyway.
_UNTRAINED = 32


def places(window: int) -> dict[str, list[int]]:
  """Returns the given frames of each task, for a window of 4 frames or more."""
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
    config: complete config of a model trained by `random_mask` on one moving digit.
    out: folder of the demo; an unfinished one is resumed.
    seconds: total wall-clock seconds for training each model.
    rates: shares of examples without given frames to train with, one model each; empty
      for that of the config. The first model is drawn.
    num_clips: number of test clips.
    classifier_steps: training steps of the digit classifier.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the config is not for these tasks, or `out` holds another run.
    timed.Stopped: a signal came during training.
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
    # Videos are sampled at the end; samples on the way would take training time.
    train = {**config["train"], "num_samples": 0}
    this = {**config, "task": task, "train": train}
    name = f"p_{float(rate):g}"
    with clock(f"train {name}"):
      timed.train(this, str(out / name), seconds)
    with clock(f"sample {name}"):
      model = sampling.load(str(out / name))
      truth = _clips(this, model, "test", num_clips)
      sampled = sample_tasks(model, truth, plan=config["plan"])
    with clock(f"measure {name}"):
      measured = measure(truth, sampled, reader)
      measured["steps"] = int(model.info["step"])
      results["models"][name] = measured
    if len(results["models"]) > 1:
      continue
    draw(out, truth, sampled)
    with clock("sample an untrained model"):
      model.set_params(jax.jit(model.system.init)(jax.random.key(this["seed"])))
      untrained = sample_tasks(model, truth[:_UNTRAINED], [GENERATION])[GENERATION]
    other = _clips(this, model, "validation", num_clips)
    results["model"] = measured
    results["baselines"] = {
      **{name: of_baseline(truth, name) for name in BASELINES},
      "untrained model": {GENERATION: frame_distance(reader, untrained, truth)},
      "real against real": {GENERATION: frame_distance(reader, other, truth)},
    }
    found = promised(results["model"], results["baselines"])
    results["goals"] = [goal.to_json() for goal in found]
    results["note"] = goals.unfinished(measured["steps"], USUAL_STEPS)
  results["seconds"] = dict(clock.seconds)
  text = "\n\n".join(filter(None, [table(results), results["note"], goals.text(found)]))
  (out / "table.txt").write_text(text + "\n")
  (out / "results.json").write_text(protocol.as_json(results))
  return json.loads((out / "results.json").read_text())


def promised(
  model: Mapping[str, Any], baselines: Mapping[str, Any]
) -> list[goals.Goal]:
  """Makes the goals from the measurements."""
  found = []
  for name, gain in (("up-sampling", 3.0), ("infilling", 3.0)):
    best = max(baselines[other][name]["psnr_pooled"] for other in BASELINES)
    title = f"{name}: pooled PSNR above the best of {NEAREST} and {BLEND}, dB"
    found.append(goals.Goal(title, model[name]["psnr_pooled"] - best, gain))
  last = baselines[NEAREST]["prediction"]["psnr_pooled"]
  ahead = model["prediction"]["psnr_pooled"] - last
  found.append(
    goals.Goal("prediction: pooled PSNR above the last given frame, dB", ahead, 2.0)
  )
  read = model["prediction"]["read"]
  found.append(
    goals.Goal("prediction: share of frames read as the given digit", read, 0.75)
  )
  floor = baselines["real against real"][GENERATION]
  span = baselines["untrained model"][GENERATION] - floor
  share = (model[GENERATION]["frechet"] - floor) / span
  title = "generation: Frechet distance, share of the way from real to untrained"
  found.append(goals.Goal(title, share, 0.2, at_least=False))
  return found


def _clips(config, model, split, count) -> np.ndarray:
  window = range(model.system.window)
  return run_data.given_clips(config, model.system, split, count, window)


def sample_tasks(
  model: sampling.Model,
  truth: np.ndarray,
  names: Sequence[str] = (),
  plan: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
  """Samples the tasks for true clips.

  Args:
    model: model that samples.
    truth: true clips, uint8 [N, T, H, W, C].
    names: names of tasks; default all four.
    plan: name and options of the prediction's plan; default the model's own. The other
      tasks fill gaps in one window.

  Returns:
    Sampled clips by task, of truth's shape.
  """
  plan = dict(plan or {})
  name_of_plan = plan.pop("name", None)
  found = {}
  for name, given in places(truth.shape[1]).items():
    if names and name not in names:
      continue
    clips = to_float(truth[:, given]) if given else None
    found[name] = to_uint8(
      model.sample(
        len(truth),
        given=clips,
        given_frames=given,
        plan=name_of_plan if name == "prediction" else "fill",
        plan_options=plan if name == "prediction" else None,
        length=truth.shape[1],
        batch_size=32,
        progress=True,
      )
    )
  return found


def nearest_given(truth: np.ndarray, given: Sequence[int]) -> np.ndarray:
  """Copies the nearest given frame to every frame, the earlier one of two."""
  index = np.arange(truth.shape[1])
  nearest = np.abs(index[:, None] - np.asarray(given)).argmin(axis=1)
  return truth[:, np.asarray(given)[nearest]]


def linear_blend(truth: np.ndarray, given: Sequence[int]) -> np.ndarray:
  """Blends, for every frame, the given ones before and after it by distance."""
  given = np.sort(np.asarray(given))
  index = np.arange(truth.shape[1])
  after = np.searchsorted(given, index).clip(0, len(given) - 1)
  before = (np.searchsorted(given, index, "right") - 1).clip(0)
  left, right = given[before], given[after]
  # Beyond the outermost given frames, and at given ones, both are equal.
  weight = (index - left) / np.maximum(right - left, 1)
  weight = np.where(right > left, weight, 0.0)[:, None, None, None]
  blend = (1 - weight) * truth[:, left] + weight * truth[:, right]
  return np.rint(blend).astype(np.uint8)


BASELINES = {NEAREST: nearest_given, BLEND: linear_blend}


def of_baseline(truth: np.ndarray, name: str) -> dict[str, Any]:
  """Measures a baseline in the tasks that have given frames."""
  make = BASELINES[name]
  return {
    task: similarity(make(truth, given), truth, given)
    for task, given in places(truth.shape[1]).items()
    if given
  }


def measure(
  truth: np.ndarray, sampled: Mapping[str, np.ndarray], reader: digits.DigitReader
) -> dict[str, Any]:
  """Measures the similarity of frames not given or, for generation, the distance.

  Args:
    truth: true clips, uint8 [N, T, H, W, C].
    sampled: sampled clips by task, of truth's shape.
    reader: reader of digits, with the features for the Frechet distance.
  """
  real = reader(truth)[0].mean(1).argmax(-1)
  found = {}
  for name, given in places(truth.shape[1]).items():
    if not given:
      found[name] = {"frechet": frame_distance(reader, sampled[name], truth)}
      continue
    read = reader(sampled[name][:, _asked(truth, given)])[0].argmax(-1)
    same = (read == real[:, None]).mean(1)
    share, error = jackknife.estimate(lambda n, same=same: same[n].mean(), len(same))
    found[name] = {
      **similarity(sampled[name], truth, given), "read": share, "read_error": error
    }  # fmt: skip
  return found


def _asked(truth: np.ndarray, given: Sequence[int]) -> np.ndarray:
  """Selects the frames that were not given."""
  return np.setdiff1d(np.arange(truth.shape[1]), given)


def similarity(clips, truth, given) -> dict[str, float]:
  """Computes PSNR and SSIM of the frames not given, of clips uint8 [N, T, H, W, C].

  `psnr_pooled` is that of the error averaged over clips and frames, with a jackknife
  error over clips; `psnr` is the mean over frames that are not predicted exactly,
  `exact` the share of those that are, `ssim` the mean over frames.
  """
  asked = _asked(truth, given)
  x, y = clips[:, asked] / 255.0, truth[:, asked] / 255.0
  error = np.square(x - y).mean((1, 2, 3, 4))
  pooled, spread = jackknife.estimate(
    lambda n: image.pooled_psnr(error[n].mean()), len(error)
  )
  each = image.psnr(x, y)
  known = np.isfinite(each)
  return {
    "psnr_pooled": pooled,
    "psnr_pooled_error": spread,
    "psnr": float(each[known].mean()) if known.any() else float("nan"),
    "exact": float(1 - known.mean()),
    "ssim": float(np.mean(image.ssim(x, y))),
  }


def frame_distance(reader, first: np.ndarray, second: np.ndarray) -> float:
  """Computes the Frechet distance of two sets of clips by the reader's features."""
  features = [reader(clips)[1] for clips in (first, second)]
  return frechet.distance_of_features(*(f.reshape(-1, f.shape[-1]) for f in features))


def draw(out: epath.Path, truth: np.ndarray, sampled: Mapping[str, np.ndarray]) -> None:
  """Draws tasks.png and tasks.gif: for some clips the truth, then one row per task."""
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
  """Formats the numbers as text."""
  tasks = [name for name, given in places(8).items() if given]
  rows = [["", *tasks, GENERATION]]

  def row(title, measured, distance=None):
    cells = ["-"] * len(tasks)
    if tasks[0] in measured:
      cells = [
        text_table.cell(measured[t]["psnr_pooled"], measured[t]["psnr_pooled_error"])
        + f" / {measured[t]['ssim']:.3f}"
        for t in tasks
      ]
    rows.append([title, *cells, "-" if distance is None else f"{distance:.1f}"])

  for name, measured in results["models"].items():
    title = f"model {name}, {measured['steps']} steps"
    row(title, measured, measured[GENERATION]["frechet"])
  for name, measured in results["baselines"].items():
    row(name, measured, measured.get(GENERATION))

  def percent(measured):
    return text_table.cell(measured["read"], measured["read_error"], percent=True)

  read = [
    f"{name}: " + ", ".join(f"{task} {percent(of[task])}" for task in tasks)
    for name, of in results["models"].items()
  ]
  return "\n".join([
    f"{results['clips']} test clips of {results['data']}; frames that were not given:",
    "pooled PSNR in dB / SSIM; generation: Frechet distance of frames",
    text_table.table(rows),
    "",
    "frames not given that read as the clip's digit: " + "; ".join(read),
  ])  # fmt: skip
