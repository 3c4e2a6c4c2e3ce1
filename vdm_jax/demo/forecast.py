"""What `vdm-jax forecast-demo` does: RVD with its residual and without.

    OUT/
      residual/, direct/     the two runs, of one budget
      eval_residual/, ...    what protocol `forecast` says of each
      by_lead.png            CRPS, PSNR and SSIM by lead time: both runs and forecasts
                             that need no learning
      residuals.png          some clips: truth, sample, and what the sample is made of:
                             prediction mu and residual
      forecasts.gif          truth and three members of some clips
      results.json           all numbers
      table.txt              the table

The paper's claim that this tests: diffusing what a prediction missed is better than
diffusing the frame.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vdm_jax import experiment, frames, sampling
from vdm_jax.data import sheet, video
from vdm_jax.data import source as sources
from vdm_jax.demo import timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, forecast_protocol, protocol
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save

VARIANTS = ("residual", "direct")
SHOWN = 3  # Clips in the pictures.
MEASURES = ("crps_fair", "psnr", "ssim")


def run(
  config: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  num_clips: int = 32,
  members: int = 8,
  num_context: int = 4,
  num_frames: int = 20,
) -> dict[str, Any]:
  """Trains both, rolls out ensembles, measures and draws.

  Args:
    config: of an RVD, complete.
    out: folder of the demo; what it holds goes on.
    seconds: wall clock for training each of the two, in all.
    num_clips: test clips.
    members: of each ensemble.
    num_context: given frames.
    num_frames: of a clip, given ones included.

  Returns:
    What results.json holds.

  Raises:
    UserError: the config is of another system, or `out` holds another run.
    timed.Stopped: by a signal, while training.
  """
  if config["system"] != "rvd":
    raise UserError(f"config.system: expected 'rvd', found {config['system']!r}")
  out = epath.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  clock = timed.Clock()
  with clock("build the data"):
    sources.ensure_built(config["data"]["name"], config["data"]["data_dir"] or None)
  sets, results = {}, {"variants": {}}
  for name in VARIANTS:
    this = variant(config, name)
    with clock(f"train {name}"):
      timed.train(this, str(out / name), seconds, out / f"{name}.spent.json")
    folder = out / f"eval_{name}"
    # The run may have gone on since.
    folder.rmtree(missing_ok=True)
    settings = forecast_protocol.Forecast(
      workdir=str(out / name),
      num_clips=num_clips,
      members=members,
      num_context=num_context,
      num_frames=num_frames,
      batch_size=members,
    )
    with clock(f"measure {name}"):
      found = protocol.evaluate(settings, folder).result
    results["variants"][name] = found
    sets |= {name if key == "model" else key: v for key, v in found["sets"].items()}
  with clock("draw"):
    draw_by_lead(out, sets, results["variants"]["residual"]["titles"])
    model = sampling.load(str(out / "residual"))
    index = range(num_frames)
    truth = experiment.given_clips(
      model.info["config"], model.system, "test", SHOWN, index
    )
    draw_residuals(out, model, truth, num_context)
  results["seconds"] = dict(clock.seconds)
  (out / "table.txt").write_text(table(sets, results) + "\n")
  (out / "results.json").write_text(protocol.as_json(results))
  return json.loads((out / "results.json").read_text())


def variant(config: Mapping[str, Any], name: str) -> dict[str, Any]:
  """The config of the run with the residual, or of the one without."""
  # Films come at the end; samples on the way would take from the training.
  config = {**config, "train": {**config["train"], "num_samples": 0}}
  if name == "residual":
    return config
  return {
    **config,
    "model": {**config["model"], "residual": False},
    # There is no prediction to score.
    "diffusion": {
      **config["diffusion"], "regression_weight": 0.0, "stop_gradient": False
    },
  }  # fmt: skip


def draw_by_lead(out: epath.Path, sets: Mapping[str, Any], titles) -> None:
  """by_lead.png: a panel a measure, a curve a forecast."""
  panels = {
    titles[key]: {
      name: (np.asarray(of[key]["by_lead"]), np.asarray(of[key]["error_by_lead"]))
      for name, of in sets.items()
    }
    for key in MEASURES
    if key in titles
  }
  figures.by_lead(out / "by_lead.png", panels)


def parts(model: sampling.Model, videos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What sampled videos are made of.

  Args:
    model: an RVD with a predictor.
    videos: float32 [N, T, H, W, C].

  Returns:
    mu, the prediction of frames 1 to T - 1 from those before, in [-1, 1]; and the
    residuals; both float32 [N, T - 1, H, W, C].
  """
  n, length = videos.shape[:2]

  def encode(params, video):
    clip = frames.clip(n, length, observed=range(length - 1))
    return model.system.network.apply(
      {"params": params}, video, clip, {}, last=length - 1, method="encode"
    ).base[:, 1:]

  mu = np.asarray(jax.jit(encode)(model.params, videos))
  return mu, videos[:, 1:] - mu


def draw_residuals(
  out: epath.Path, model: sampling.Model, truth: np.ndarray, context: int
) -> None:
  """residuals.png and forecasts.gif of true clips uint8 [N, T, H, W, C]."""
  given = to_float(truth[:, :context])
  members = [
    model.sample(
      len(truth), seed=seed, length=truth.shape[1], given=given, batch_size=len(truth)
    )
    for seed in range(3)
  ]
  mu, residual = parts(model, members[0])
  shown = slice(context - 1, None)  # Of frames 1 to T - 1: those that were sampled.
  rows, captions, borders = [], [], []
  for clip in range(len(truth)):
    sampled = to_uint8(members[0][clip])
    rows += [
      truth[clip],
      sampled,
      np.concatenate([sampled[:context], to_uint8(mu[clip, shown])]),
      # Grey is nothing; half as steep, for residuals lie in [-2, 2].
      np.concatenate([sampled[:context], to_uint8(0.5 * residual[clip, shown])]),
    ]
    captions += ["truth", "sample", "prediction", "residual"]
    borders += [
      [sheet.OBSERVED if t < context else None for t in range(truth.shape[1])]
    ] * 4
  sheet.write_contact_sheet(
    out / "residuals.png", rows, captions=captions, borders=borders, scale=3
  )
  columns = [truth, *map(to_uint8, members)]
  grid = save.tile(np.stack(columns, axis=1).reshape(-1, *truth.shape[1:]))
  scale = video.visible_scale(*truth.shape[2:4])
  video.write_gif(out / "forecasts.gif", grid, fps=6, scale=scale)


def table(sets: Mapping[str, Any], results: Mapping[str, Any]) -> str:
  """The means over clips and lead times, as text."""
  first = results["variants"]["residual"]
  titles = {key: first["titles"][key] for key in MEASURES if key in first["titles"]}
  rows = [["", *titles.values()]]
  for name, measured in sets.items():
    rows.append(
      [
        name,
        *(protocol.cell(measured[k]["mean"], measured[k]["error"]) for k in titles),
      ]
    )
  steps = {
    name: found["checkpoint_step"] for name, found in results["variants"].items()
  }
  head = (
    f"{first['clips']} test clips of {first['data']}, {first['members']} members, "
    f"{first['context']} given frames, {first['lead_times']} predicted; trained for "
    + ", ".join(f"{count} steps ({name})" for name, count in steps.items())
  )
  return f"{head}\n{protocol.table(rows)}"
