"""The demo `vdm-jax cascade-demo`: from a caption to a small, then a large video.

    OUT/
      base/, upper/      the runs of the two models
      classifier/        the run of the digit classifier
      samples/           the final videos, as `vdm-jax sample --then` leaves them, with
                         the base model's in stage_0/
      cascade.gif        base videos (enlarged), final videos, real ones
      report.html        caption, base, final and real videos, in one file
      results.json       all numbers
      table.txt          the table

Captions ask for a digit and its direction, half of them for directions in which this
digit never moves in the training data. Finished parts in OUT are kept.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import pixels, run_data, sampling, text_table
from vdm_jax.data import builders, video
from vdm_jax.data import source as sources
from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import captioned, cascade_page, digits, digits_page, goals, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import cascade, save
from vdm_jax.training import parameters

CLASSIFIER_STEPS = 250
BASE_SHARE = 0.5  # Share of the time for the base model.
# Steps of the two models in the demo's time on two quiet cores.
USUAL_STEPS = (3300, 2400)
BASE, FINAL, REAL = "base videos", "final videos", "real test clips"
# Frames of the data between which a direction is read, before any wall is hit.
_READ_WAY = 8


def run(
  base: Mapping[str, Any],
  upper: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  per_digit: int = 2,
  classifier_steps: int = CLASSIFIER_STEPS,
) -> dict[str, Any]:
  """Trains both models, samples, measures and reports.

  Args:
    base: config of the model that makes a small video of few frames.
    upper: config of the model that enlarges it and fills in frames.
    out: folder of the demo.
    seconds: total wall-clock seconds for training both, earlier calls included.
    per_digit: held-out captions per digit, and as many others.
    classifier_steps: training steps of the digit classifier.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the two do not chain, or are not for captioned digits.
    timed.Stopped: a signal came during training.
  """
  out = epath.Path(out)
  dataset = upper["data"]["name"]
  _check(base, upper)
  clock = timed.Clock()
  with clock("build the data"):
    sources.ensure_built(dataset, upper["data"]["data_dir"] or None)
  with clock("train the classifier"):
    reader, result = digits.train(
      dataset, out / "classifier", num_steps=classifier_steps
    )
    timed.unless_stopped(result)
  shares = {"base": BASE_SHARE, "upper": 1 - BASE_SHARE}
  for name, config in (("base", base), ("upper", upper)):
    with clock(f"train the {name} model"):
      quiet = {**config, "train": {**config["train"], "num_samples": 0}}
      timed.train(quiet, str(out / name), seconds * shares[name])
  with clock("sample"):
    models = [sampling.load(str(out / name)) for name in ("base", "upper")]
    asked = captioned.combinations(per_digit)
    small, large = _sample(out / "samples", models, [one.caption for one in asked])

  with clock("measure"):
    real, wanted = _real(upper, models, len(asked))
    results = measure(asked, small, large, reader, models)
    results[REAL] = {
      "digit": float(np.mean(reader.vote(real) == wanted[:, 0])),
      "direction": float(
        np.mean(captioned.directions(real, 0, _READ_WAY) == wanted[:, 1])
      ),
    }
    results["run"] = {
      "data": dataset,
      "steps": [int(model.info["step"]) for model in models],
      "parameters": [parameters.count(model.params) for model in models],
      "sampling": [dict(config["sampling"]) for config in (base, upper)],
    }
  found = promised(results)
  results["goals"] = [goal.to_json() for goal in found]
  results["note"] = next(
    filter(None, map(goals.unfinished, results["run"]["steps"], USUAL_STEPS)), ""
  )
  with clock("report"):
    results["seconds"] = dict(clock.seconds)
    (out / "table.txt").write_text(table(results, found) + "\n")
    (out / "results.json").write_text(protocol.as_json(results))
    shown = _next_to(real, wanted, asked)
    _gif(out / "cascade.gif", small, large, shown)
    cascade_page.write(
      out / "report.html",
      asked,
      {BASE: small, FINAL: large, REAL: shown},
      (out / "table.txt").read_text(),
      out,
    )
  return json.loads((out / "results.json").read_text())


def measure(
  asked: Sequence[captioned.Asked],
  small: np.ndarray,
  large: np.ndarray,
  reader: digits.DigitReader,
  models: Sequence[sampling.Model],
) -> dict[str, Any]:
  """Measures videos against their captions, and final videos against base videos.

  Args:
    asked: N captions.
    small: uint8 [N, T, h, w, C], videos of the base model.
    large: uint8 [N, T s, H, W, C], videos of the upper model.
    reader: reader of digits in large frames.
    models: both models.
  """
  time, _ = cascade.factors(models[0].system, models[1].system)
  held = np.array([one.held_out for one in asked])
  digit = np.array([one.digit for one in asked])
  way = np.array([one.direction for one in asked])
  step = models[0].system.stride  # One frame of the base videos.
  return {
    "digit": captioned.rates(reader.vote(large) == digit, held),
    "direction": captioned.rates(
      captioned.directions(large, 0, _READ_WAY // models[1].system.stride) == way, held
    ),
    "direction of base videos": captioned.rates(
      captioned.directions(small, 0, max(1, _READ_WAY // step)) == way, held
    ),
    "disagreement": _disagreement(small, large[:, ::time]),
  }


def _disagreement(small: np.ndarray, large: np.ndarray) -> float:
  """Computes the mean difference of averaged large frames from small ones."""
  averaged = pixels.average(large.astype(np.float64), *small.shape[2:4])
  return float(np.abs(averaged - small).mean() / 255)


def promised(results: Mapping[str, Any]) -> list[goals.Goal]:
  """Makes the goals from the measurements."""

  def held(key):
    return results[key][captioned.HELD_OUT]["value"]

  return [
    goals.Goal(
      "final videos averaged down against base videos, share of the range",
      results["disagreement"], 0.05, False,
    ),
    goals.Goal("held-out captions: the digit asked for is read", held("digit"), 0.7),
    goals.Goal("held-out captions: it goes the way asked for", held("direction"), 0.7),
  ]  # fmt: skip


def table(results: Mapping[str, Any], found: Sequence[goals.Goal]) -> str:
  """Formats all numbers of the demo as text."""
  rows = [["share of videos", captioned.HELD_OUT, captioned.SEEN, REAL]]
  names = {
    "digit": "digit asked for is read",
    "direction": "goes the way asked for",
    "direction of base videos": "base video goes the way asked for",
  }
  for key, title in names.items():
    real = results[REAL].get(key)
    rows.append(
      [
        title,
        *(
          text_table.cell(of["value"], of["error"], percent=True)
          for of in results[key].values()
        ),
        "" if real is None else f"{100 * real:.0f} %",
      ]
    )
  disagreement = (
    "final videos averaged to the size of the base videos differ from them by "
    f"{results['disagreement']:.4f} of the range"
  )
  parts = [text_table.table(rows), disagreement, results["note"], goals.text(found)]
  return "\n\n".join(filter(None, parts))


def _check(base, upper):
  """Raises UserError for configs that this demo cannot judge."""
  for config in (base, upper):
    dataset = config["data"]["name"]
    digits.Rendering(dataset, "test")  # Raises for other data.
    if not builders.parse(dataset)[1].captions:
      raise UserError(
        f"data set {dataset!r}: expected moving_digits with 'captions' in its name"
      )


def _sample(out, models, captions):
  """Samples base and final videos, uint8, or reads those of the same models."""
  facts = [(model.info["step"], model.info["config"]) for model in models]
  wanted = save.as_written({"captions": captions, "models": facts})
  noted = out / "made_by.json"
  if noted.exists() and json.loads(noted.read_text()) == wanted:
    return save.read(out / "stage_0"), save.read(out)
  if out.exists():  # The models have been trained further since.
    out.rmtree()
  tokens = []
  for model in models:
    encoder = run_data.text_encoder(model.info)
    pairs = [encoder(caption) for caption in captions]
    tokens.append(tuple(map(np.stack, zip(*pairs, strict=True))))
  options = dict(batch_size=20, progress=True)
  small = to_uint8(models[0].sample(len(captions), tokens=tokens[0], **options))
  large = to_uint8(
    cascade.enlarge(
      models[1],
      models[0].system,
      to_float(small),
      1,
      tokens=tokens[1],
      **options,
    )
  )
  for folder, model, videos in ((out / "stage_0", models[0], small),
                               (out, models[1], large)):  # fmt: skip
    record = save.describe(
      model, seed=0, caption=captions, settings=dict(model.info["config"]["sampling"])
    )
    save.save(folder, to_float(videos), record, captions=captions)
  noted.write_text(json.dumps(wanted))
  return small, large


def _real(upper, models, count):
  """Reads test clips uint8 [N, T, H, W, C], and their digits and directions [N, 2]."""
  source = run_data.open_split(upper, models[1].system, "test")
  count = min(10 * count, source.num_videos)
  frames = np.arange(source.lengths.min())
  clips = source.read_many([(number, frames) for number in range(count)])
  wanted = [
    (source.label(number), _way_of(source.caption(number))) for number in range(count)
  ]
  return np.stack([clip["frames"] for clip in clips]), np.array(wanted)


def _way_of(caption: str) -> int:
  """Finds the direction at the end of a caption."""
  ways = range(len(moving_digits.DIRECTIONS))
  fitting = [way for way in ways if caption.endswith(f" {moving_digits.words(way)}")]
  return max(fitting, key=lambda way: len(moving_digits.words(way)))


def _next_to(real, wanted, asked):
  """Finds a real clip for each caption; a black one if there is none."""
  shown = np.zeros((len(asked), *real.shape[1:]), np.uint8)
  for place, one in enumerate(asked):
    fitting = np.flatnonzero((wanted == (one.digit, one.direction)).all(1))
    if len(fitting):
      shown[place] = real[fitting[0]]
  return shown


def enlarged(small: np.ndarray, large: np.ndarray) -> np.ndarray:
  """Repeats pixels and frames of small videos to the size and rate of large ones."""
  for axis in (1, 2, 3):
    small = np.repeat(small, large.shape[axis] // small.shape[axis], axis=axis)
  return small


def _gif(path, small, large, real):
  """Writes base, final and real videos of the first captions, one below the other."""
  frames = min(large.shape[1], real.shape[1])
  rows = [
    digits_page.strip(videos[:10, :frames])
    for videos in (enlarged(small, large), large, real)
  ]
  scale = max(1, round(64 / large.shape[2]))
  video.write_gif(
    path, np.concatenate(rows, axis=1), fps=2 * digits_page.FPS, scale=scale
  )
