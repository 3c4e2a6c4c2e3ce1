"""The demo `vdm-jax demo`, step by step.

    OUT/
      train/            the run of the diffusion model, as `vdm-jax train` leaves it
      classifier/       the run of the digit classifier
      samples/          sampled videos, as `vdm-jax sample` leaves them
      loss.png          loss curve
      side_by_side.gif  sampled clips (left) and real ones (right), one row per digit
      longer.gif        clips of 20 frames, window after window
      results.json      all numbers
      table.txt         the table
      report.html       all videos and numbers, in one file

Nothing in OUT is lost: a run that was killed resumes, and so does a finished one if it
is given more seconds. Samples, numbers and report are made anew.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import tqdm
from etils import epath

import vdm_jax
from vdm_jax import run_data, sampling, text_table
from vdm_jax.data import source as sources
from vdm_jax.data import video
from vdm_jax.demo import digit_clips, digits, digits_page, goals, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import plots, protocol
from vdm_jax.metrics import jackknife
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save
from vdm_jax.training import parameters

CHUNK = 20  # Clips sampled at a time, two of each digit.
SHOWN = 4  # Number of clips of each digit in the pictures.
REAL = "real, unseen digits"
TRAINING = "real, training digits"
SAMPLED = "sampled"
UNTRAINED = "untrained model"
EXTENDED = 20  # Frames of the longer clips, which are made window after window.
NUM_EXTENDED = 40  # Number of longer clips.
# Training steps in the demo's time on two quiet cores.
USUAL_STEPS = 5600


def run(
  config: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  num_clips: int = 100,
  sample_seconds: float = 90.0,
  classifier_steps: int = 400,
) -> dict[str, Any]:
  """Trains, samples, measures and reports.

  Args:
    config: complete config of the diffusion model, with its sampling settings.
    out: folder of the demo.
    seconds: total wall-clock seconds for training the diffusion model, earlier calls
      included.
    num_clips: number of clips to sample, a multiple of CHUNK.
    sample_seconds: seconds after which sampling stops, but not before 2 * CHUNK clips,
      so that a slow machine makes do with fewer.
    classifier_steps: training steps of the digit classifier.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the config is not for one moving digit with its class, or `out` holds
      the run of another config.
    timed.Stopped: a signal came during training.
  """
  config = _checked(config)
  if num_clips < 2 * CHUNK or num_clips % CHUNK:
    raise UserError(
      f"num_clips: expected a multiple of {CHUNK} from {2 * CHUNK} on, "
      f"found {num_clips}"
    )
  out = epath.Path(out)
  dataset = config["data"]["name"]
  clock = timed.Clock()

  with clock("build the data"):
    sources.ensure_built(dataset, config["data"]["data_dir"] or None)

  with clock("train the classifier"):
    reader, result = digits.train(
      dataset, out / "classifier", num_steps=classifier_steps
    )
    timed.unless_stopped(result)
    accuracy = {
      split: reader.accuracy(digits.Rendering(dataset, split))
      for split in ("train", "test")
    }
  timed.say(f"digit classifier: {accuracy['test']:.1%} of unseen digits read right")

  workdir = str(out / "train")
  with clock("train the diffusion model"):
    timed.train(config, workdir, seconds)
  plots.loss_curve(workdir, out / "loss.png")

  with clock("sample"):
    model = sampling.load(workdir)
    sampled = _sample(model, config, num_clips, sample_seconds, seed=0)
    untrained = _sample_untrained(model, config)
  with clock("sample longer clips"):
    longer = _sample(
      model, config, NUM_EXTENDED, float("inf"), seed=20_000, length=EXTENDED
    )
  with clock("write the videos"):
    samples = out / "samples"
    if samples.exists():
      shutil.rmtree(samples)
    _write_samples(samples, sampled, model, config)

  with clock("measure"):
    system = model.system

    def real(split, per_class=0):
      source = run_data.open_split(config, system, split)
      return digit_clips.real_clips(source, system.window, system.stride, per_class)

    reference, per_class = real("test"), len(sampled) // digits.NUM_CLASSES
    sets = {
      SAMPLED: sampled,
      REAL: real("validation", per_class),
      TRAINING: real("train", per_class),
      UNTRAINED: untrained,
    }
    results = digit_clips.evaluate(sets, reference, reader)
    results["classifier"] = {"accuracy": accuracy}
    results["extended"] = _extended(longer, reader, system.window)
  results["run"] = _facts(model, config, workdir)
  results["seconds"] = dict(clock.seconds)
  results["model"] = results["sets"][SAMPLED]
  results["baselines"] = {
    name: found for name, found in results["sets"].items() if name != SAMPLED
  }
  found = promised(results["model"], results["extended"])
  results["goals"] = [goal.to_json() for goal in found]
  results["note"] = goals.unfinished(results["run"]["steps"], USUAL_STEPS)

  with clock("report"):
    _side_by_side(out / "side_by_side.gif", sampled, reference)
    longer_gif = save.tile(longer.videos[:CHUNK])
    scale = video.visible_scale(*longer.videos.shape[2:4])
    video.write_gif(out / "longer.gif", longer_gif, fps=digits_page.FPS, scale=scale)
    (out / "table.txt").write_text(table(results, found) + "\n")
    (out / "results.json").write_text(protocol.as_json(results))
    digits_page.write(
      out / "report.html",
      results,
      clips={SAMPLED: sampled, REAL: reference, UNTRAINED: untrained},
      loss_png=out / "loss.png",
      workdir=workdir,
      shown=SHOWN,
    )
  return json.loads((out / "results.json").read_text())


def promised(model: Mapping[str, Any], extended: Mapping[str, Any]) -> list[goals.Goal]:
  """Makes the goals from the measurements."""

  def value(key):
    found = model[key]["value"]
    return float("nan") if found is None else found

  return [
    goals.Goal("digit asked for is read, share of clips", value("asked_clips"), 0.9),
    goals.Goal("steps faster than any real one, share", value("jumps"), 0.02, False),
    goals.Goal(
      "speeds: Wasserstein-1 to real test clips, pixels",
      value("speed_distance"), 0.15, False,
    ),
    goals.Goal(
      f"clips of {EXTENDED} frames: the digit asked for is read at their end",
      extended["asked_clips"]["value"], 0.7,
    ),
  ]  # fmt: skip


def table(results: Mapping[str, Any], found: Sequence[goals.Goal]) -> str:
  """Formats all numbers of the demo as text."""
  longer = results["extended"]["asked_clips"]
  read = text_table.cell(longer["value"], longer["error"], percent=True)
  parts = [
    digit_clips.table(results),
    f"{results['extended']['clips']} clips of {EXTENDED} frames, made window after "
    f"window: the digit asked for is read in the frames after the first window in "
    f"{read}",
    results["note"],
    goals.text(found),
  ]
  return "\n\n".join(filter(None, parts))


def _extended(clips, reader, window: int) -> dict[str, Any]:
  """Counts the longer clips that keep their digit after the first window."""
  kept = reader.vote(clips.videos[:, window:]) == clips.labels
  value, error = jackknife.estimate(lambda n: kept[n].mean(), len(kept))
  return {"clips": len(kept), "asked_clips": {"value": value, "error": error}}


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
  digits.Rendering(config["data"]["name"], "test")  # Raises for other data.
  if config["model"].get("num_labels") != digits.NUM_CLASSES:
    raise UserError(
      f"config.model.num_labels: the demo asks for digits, expected "
      f"{digits.NUM_CLASSES}, found {config['model'].get('num_labels')}"
    )
  # Videos are sampled at the end; samples on the way would take training time.
  return {**config, "train": {**config["train"], "num_samples": 0}}


def _sample(model, config, num_clips, seconds, seed, length=None) -> digit_clips.Clips:
  """Samples chunk by chunk, each of which asks for all digits."""
  labels = np.arange(CHUNK) % digits.NUM_CLASSES
  start, videos = time.monotonic(), []
  with tqdm.tqdm(total=num_clips, desc="sample", unit="clip", mininterval=5) as bar:
    for number in range(num_clips // CHUNK):
      late = time.monotonic() - start > seconds
      if late and number >= 2:
        bar.write(f"sampling takes long here: {number * CHUNK} clips suffice")
        break
      chunk = model.sample(
        CHUNK,
        seed=seed + number,
        label=labels,
        batch_size=CHUNK,
        length=length,
        **config["sampling"],
      )
      videos.append(to_uint8(chunk))
      bar.update(CHUNK)
  return digit_clips.Clips(np.concatenate(videos), np.tile(labels, len(videos)))


def _sample_untrained(model, config) -> digit_clips.Clips:
  """Samples one chunk with the same sampler and fresh parameters."""
  trained = model.params
  model.set_params(jax.jit(model.system.init)(jax.random.key(config["seed"])))
  try:
    return _sample(model, config, CHUNK, float("inf"), seed=10_000)
  finally:
    model.set_params(trained)


def _write_samples(folder, clips, model, config):
  record = save.describe(
    model,
    seeds=f"0, 1, ... for every {CHUNK} videos",
    settings=dict(config["sampling"]),
    label=clips.labels.tolist(),
  )
  captions = [str(label) for label in clips.labels]
  save.save(folder, to_float(clips.videos), record, captions=captions)


def _facts(model, config, workdir) -> dict[str, Any]:
  train = config["train"]
  return {
    "data": config["data"]["name"],
    "steps": int(model.info["step"]),
    "batch_size": train["batch_size"],
    "train_seconds": round(timed.trained_seconds(workdir), 1),
    "parameters": parameters.count(model.params),
    "window": model.system.window,
    "sampling": dict(config["sampling"]),
    "ema": model.info["ema"],
    "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "vdm_jax": vdm_jax.__version__,
    "jax": jax.__version__,
  }


def _side_by_side(path, sampled, real):
  rows = []
  for digit in range(digits.NUM_CLASSES):
    pair = [
      digits_page.strip(digits_page.of_digit(clips, digit, SHOWN))
      for clips in (sampled, real)
    ]
    gap = np.full((*pair[0].shape[:2], 6, pair[0].shape[3]), 255, np.uint8)
    rows.append(np.concatenate([pair[0], gap, pair[1]], axis=2))
  grid = np.concatenate(rows, axis=1)
  side = max(1, round(48 / real.videos.shape[2]))
  video.write_gif(path, grid, fps=digits_page.FPS, scale=side)
