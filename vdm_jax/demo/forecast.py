"""The demo `vdm-jax forecast-demo`: RVD with its residual and without.

    OUT/
      predictor/             first stage of the first run: the predictor by itself
      residual/, direct/     the two runs, of one budget
      members/NAME/0, ...    their forecasts, as `vdm-jax sample` leaves them, one
                             folder per member
      eval_residual/, ...    results of protocol `forecast`
      classifier/            the run of the digit classifier
      by_lead.png            CRPS, PSNR and SSIM by lead time: both runs and forecasts
                             that need no learning
      residuals.png          some clips: truth, sample, and the sample's prediction mu
                             and residual
      forecasts.gif          truth and three members of some clips
      results.json           all numbers
      table.txt              the table

This tests the paper's claim that diffusing what a prediction missed is better than
diffusing the frame. Finished parts in OUT are kept.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vdm_jax import frames, run_data, sampling, text_table
from vdm_jax.data import sheet, video
from vdm_jax.data import source as sources
from vdm_jax.demo import digits, goals, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, forecast_protocol, protocol
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save

VARIANTS = ("residual", "direct")
# Share of the first run's time for training the predictor by itself.
PREDICTOR_SHARE = 0.4
SHOWN = 3  # Number of clips in the pictures.
MEASURES = ("crps_fair", "psnr_pooled", "ssim")
COPIED, MOVED = "last frame copied", "constant velocity"
READ_AT = 8  # Lead time at which members are read.
# Steps of the second stage in the demo's time on two quiet cores.
USUAL_STEPS = 1400


def run(
  config: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  num_clips: int = 32,
  members: int = 8,
  num_context: int = 4,
  num_frames: int = 20,
  classifier_steps: int = 400,
) -> dict[str, Any]:
  """Trains both runs, rolls out ensembles, measures and draws.

  Args:
    config: complete config of an RVD with a predictor, on one moving digit.
    out: folder of the demo; an unfinished one is resumed.
    seconds: total wall-clock seconds for training each run, with all of its stages.
    num_clips: number of test clips.
    members: number of members of each ensemble.
    num_context: number of given frames.
    num_frames: frames per clip, given ones included.
    classifier_steps: training steps of the digit classifier.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the config is of another system, or `out` holds another run.
    timed.Stopped: a signal came during training.
  """
  if config["system"] != "rvd":
    raise UserError(f"config.system: expected 'rvd', found {config['system']!r}")
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
  if not (out / "residual" / "config.json").exists():  # It starts from the predictor.
    with clock("train the predictor"):
      first = stage(config, "predictor")
      timed.train(first, str(out / "predictor"), PREDICTOR_SHARE * seconds)

  sets, results = {}, {"variants": {}}
  for name in VARIANTS:
    if name == "residual":
      this, given = stage(config, "denoiser"), str(out / "predictor")
      left = (1 - PREDICTOR_SHARE) * seconds
    else:
      this, given, left = direct(config), None, seconds
    with clock(f"train {name}"):
      timed.train(this, str(out / name), left, init_from=given)
    with clock(f"sample {name}"):
      model = sampling.load(str(out / name))
      truth = run_data.given_clips(
        this, model.system, "test", num_clips, range(num_frames)
      )
      folders = sample(out / "members" / name, model, truth, members, num_context)
    with clock(f"measure {name}"):
      folder = out / f"eval_{name}"
      folder.rmtree(missing_ok=True)  # The run may have been trained further.
      settings = forecast_protocol.Forecast(
        samples=tuple(map(str, folders)), num_clips=num_clips
      )
      found = protocol.evaluate(settings, folder).result
      found["checkpoint_step"] = int(model.info["step"])
      del found["records"]  # These repeat the config for each member.
      found["read"] = read(reader, folders, truth, num_context)
    results["variants"][name] = found
    sets |= {name if key == "samples" else key: v for key, v in found["sets"].items()}
  with clock("draw"):
    draw_by_lead(out, sets, results["variants"]["residual"]["titles"])
    draw_residuals(out, truth, num_context)
  residual = results["variants"]["residual"]
  results["model"] = {**sets["residual"], "read": residual["read"]}
  results["baselines"] = {k: v for k, v in sets.items() if k != "residual"}
  results["baselines"]["direct"]["read"] = results["variants"]["direct"]["read"]
  found = promised(results["model"], results["baselines"])
  results["goals"] = [goal.to_json() for goal in found]
  results["note"] = goals.unfinished(residual["checkpoint_step"], USUAL_STEPS)
  results["seconds"] = dict(clock.seconds)
  text = [table(sets, results), results["note"], goals.text(found)]
  (out / "table.txt").write_text("\n\n".join(filter(None, text)) + "\n")
  (out / "results.json").write_text(protocol.as_json(results))
  return json.loads((out / "results.json").read_text())


def stage(config: Mapping[str, Any], train_only: str) -> dict[str, Any]:
  """Makes the config of a stage of the run with the residual."""
  return {
    **config,
    # Videos are sampled at the end; samples on the way would take training time.
    "train": {**config["train"], "num_samples": 0},
    "model": dict(config["model"]),
    "diffusion": {**config["diffusion"], "train_only": train_only},
  }


def direct(config: Mapping[str, Any]) -> dict[str, Any]:
  """Makes the config of the run without a predictor, which diffuses the frames."""
  without = stage(config, "")
  # It needs a context net, as there are no states of a predictor to read.
  factor = config["model"]["context_factor"] or 1.0
  without["model"].update(residual=False, estimate_frame=False, context_factor=factor)
  # There is no prediction to score.
  without["diffusion"].update(regression_weight=0.0, stop_gradient=False)
  return without


def sample(folder, model, truth, members, num_context) -> list[epath.Path]:
  """Samples forecasts of clips uint8 [N, T, H, W, C], one folder per missing member."""
  count, length = truth.shape[:2]
  observed = np.arange(length) < num_context
  folders = []
  for seed in range(members):
    record = save.describe(
      model,
      seed=seed,
      length=length,
      settings=dict(model.info["config"]["sampling"]),
      given={
        "data": model.info["config"]["data"]["name"],
        "split": "test",
        "videos": list(range(count)),
      },
      given_frames=list(range(num_context)),
    )
    folders.append(folder / str(seed))
    if (folders[-1] / "record.json").exists():
      if save.read_record(folders[-1]) == record:
        continue
      folders[-1].rmtree()  # The model has been trained further since.
    videos = model.sample(
      count,
      seed=seed,
      length=length,
      given=to_float(truth[:, :num_context]),
      batch_size=count,
      progress=True,
    )
    save.save(folders[-1], videos, record, observed=observed, films=False)
  return folders


def read(reader, folders, truth, num_context) -> dict[str, Any]:
  """Computes how often members read as the clip's digit, by lead time.

  The clip's digit is the one that its true frames show together.
  """
  asked = reader(truth)[0].mean(1).argmax(-1)
  videos = np.stack([save.read(folder)[:, num_context:] for folder in folders])
  same = reader(videos)[0].argmax(-1) == asked[:, None]
  by_clip = same.mean(0)  # [N, lead times]
  errors = by_clip.std(0, ddof=1) / np.sqrt(len(by_clip))
  return {"by_lead": by_clip.mean(0), "error_by_lead": errors}


def promised(
  model: Mapping[str, Any], baselines: Mapping[str, Any]
) -> list[goals.Goal]:
  """Makes the goals from the measurements."""
  score = model["crps_fair"]["mean"]
  copied, moved, without = (
    baselines[name]["crps_fair"]["mean"] for name in (COPIED, MOVED, "direct")
  )
  lead = min(READ_AT, len(model["read"]["by_lead"]))
  sharp = model["read"]["by_lead"][lead - 1]
  return [
    goals.Goal(
      f"fair CRPS, share of that of the {COPIED}", score / copied, 0.6, at_least=False
    ),
    goals.Goal(
      f"fair CRPS, share of that of {MOVED}", score / moved, 1.0, False, strict=True
    ),
    goals.Goal(
      f"members that read as the given digit at lead time {lead}", sharp, 0.6
    ),
    goals.Goal(
      "fair CRPS, share of that without the residual",
      score / without, 1.0, False, strict=True,
    ),
  ]  # fmt: skip


def draw_by_lead(out: epath.Path, sets: Mapping[str, Any], titles) -> None:
  """Draws by_lead.png, with one panel per measure and one curve per forecast."""
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
  """Splits sampled videos into prediction and residual.

  Args:
    model: an RVD with a predictor.
    videos: float32 [N, T, H, W, C].

  Returns:
    mu, the prediction of frames 1 to T - 1 from those before, in [-1, 1], and the
    residuals, both float32 [N, T - 1, H, W, C].
  """
  n, length = videos.shape[:2]

  def encode(params, video):
    clip = frames.clip(n, length, observed=range(length - 1))
    return model.system.network.apply(
      {"params": params}, video, clip, {}, last=length - 1, method="encode"
    ).base[:, 1:]

  mu = np.asarray(jax.jit(encode)(model.params, videos))
  return mu, videos[:, 1:] - mu


def draw_residuals(out: epath.Path, truth: np.ndarray, context: int) -> None:
  """Draws residuals.png and forecasts.gif of true clips uint8 [N, T, H, W, C]."""
  model = sampling.load(str(out / "residual"))
  truth = truth[:SHOWN]
  folders = sorted((out / "members" / "residual").iterdir())[:3]
  members = [save.read(folder)[:SHOWN] for folder in folders]
  mu, residual = parts(model, to_float(members[0]))
  shown = slice(context - 1, None)  # The sampled ones of frames 1 to T - 1.
  rows, captions, borders = [], [], []
  for clip in range(len(truth)):
    sampled = members[0][clip]
    rows += [
      truth[clip],
      sampled,
      np.concatenate([sampled[:context], to_uint8(mu[clip, shown])]),
      # Grey is zero; the scale is halved, as residuals are in [-2, 2].
      np.concatenate([sampled[:context], to_uint8(0.5 * residual[clip, shown])]),
    ]
    captions += ["truth", "sample", "prediction", "residual"]
    borders += [
      [sheet.OBSERVED if t < context else None for t in range(truth.shape[1])]
    ] * 4
  sheet.write_contact_sheet(
    out / "residuals.png", rows, captions=captions, borders=borders, scale=3
  )
  columns = [truth, *members]
  grid = save.tile(np.stack(columns, axis=1).reshape(-1, *truth.shape[1:]))
  scale = video.visible_scale(*truth.shape[2:4])
  video.write_gif(out / "forecasts.gif", grid, fps=6, scale=scale)


def table(sets: Mapping[str, Any], results: Mapping[str, Any]) -> str:
  """Formats means over clips and lead times as text."""
  first = results["variants"]["residual"]
  titles = {key: first["titles"][key] for key in MEASURES if key in first["titles"]}
  rows = [["", *titles.values()]]
  for name, measured in sets.items():
    rows.append(
      [
        name,
        *(text_table.cell(measured[k]["mean"], measured[k]["error"]) for k in titles),
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
  reads = []
  for name, found in results["variants"].items():
    lead = min(READ_AT, found["lead_times"])
    share, error = (found["read"][k][lead - 1] for k in ("by_lead", "error_by_lead"))
    reads.append(f"{name} {text_table.cell(share, error, percent=True)}")
  return (
    f"{head}\n{text_table.table(rows)}\n\n"
    f"members that read as the clip's digit at lead time {lead}: {', '.join(reads)}"
  )
