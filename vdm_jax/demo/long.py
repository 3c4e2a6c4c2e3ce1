"""The demo `vdm-jax long-demo`: FDM keeps a digit for a hundred frames.

    OUT/
      train/             the run of the model
      classifier/        the run of the digit classifier
      samples/PLAN/      sampled videos of a plan, as `vdm-jax sample` leaves them
      scheme_PLAN.png    the plan as a picture
      long.png           some videos, every few frames: truth, then one row per plan
      paths.png          the path of the digit's centre
      long.gif           the same videos side by side, one row per plan
      results.json       all numbers
      table.txt          the table

A window is a small part of the video, so only the plan connects the end with the
beginning. The digit's position is known exactly (its centre of mass), so that WD and PO
of the paper need no regressor:

    speed       distance between the centres of neighbouring frames, in pixels
    PO          share of steps faster than any real one by half a pixel, including steps
                from or to a frame without a digit
    WD          Wasserstein-1 distance between speeds that are no outliers and real ones
    dissolved   share of frames with less than half the light of the faintest real
                digits, or more than 1.5 times that of the brightest
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import run_data, sampling, text_table
from vdm_jax.data import sheet, video
from vdm_jax.data import source as sources
from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import by_plan, digits, goals, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, forecast_scores, motion, protocol, walk
from vdm_jax.metrics import jackknife

FPS = 8.0
SHOWN = 2  # Number of videos in the figure.
COLUMNS = 20  # Frames per video in the figure.
LAST = 20  # Number of frames read at the end.
REAL = "real videos"
COPIED = "last frame copied"
# Training steps in the demo's time on two quiet cores.
USUAL_STEPS = 6700
ROWS = {
  "kept": f"digit given is read in the last {LAST} frames",
  "same": "frames that read as the digit given",
  "outliers": "PO: steps faster than any real one",
  "speed_distance": "WD: speeds, Wasserstein-1, pixels",
  "dissolved": "frames dissolved",
}


def run(
  config: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  plan_names: Sequence[str] = ("autoreg", "long-range", "hierarchy-2"),
  num_videos: int = 24,
  length: int = 100,
  num_obs: int = 8,
  classifier_steps: int = 400,
) -> dict[str, Any]:
  """Trains, samples under each plan, measures and draws.

  Args:
    config: complete config of an FDM on one moving digit.
    out: folder of the demo; an unfinished one is resumed.
    seconds: total wall-clock seconds for training the model.
    plan_names: sampling plans to compare.
    num_videos: number of videos per plan, from as many test videos.
    length: frames per video.
    num_obs: number of given frames.
    classifier_steps: training steps of the digit classifier.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the config is not for one moving digit, or `out` holds another run.
    timed.Stopped: a signal came during training.
  """
  dataset = config["data"]["name"]
  digits.Rendering(dataset, "test")  # Raises for other data.
  if length - num_obs < LAST:
    raise UserError(
      f"`length={length}`: expected {num_obs + LAST} or more, {num_obs} given frames "
      f"and the {LAST} last ones that are read"
    )
  out = epath.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  # Videos are sampled at the end; samples on the way would take training time.
  config = {**config, "train": {**config["train"], "num_samples": 0}}
  if config["task"]["name"] == "plan_stages":  # As in sampling.
    asked = {"length": length, "num_obs": num_obs, "plan_names": list(plan_names)}
    config["task"] = {**config["task"], **asked}
  clock = timed.Clock()
  with clock("build the data"):
    sources.ensure_built(dataset, config["data"]["data_dir"] or None)
  with clock("train the classifier"):
    reader, result = digits.train(
      dataset, out / "classifier", num_steps=classifier_steps
    )
    timed.unless_stopped(result)
  with clock("train the diffusion model"):
    timed.train(config, str(out / "train"), seconds)

  model = sampling.load(str(out / "train"))
  source = run_data.open_split(config, model.system, "test")
  if 2 * num_videos > source.num_videos:
    raise UserError(
      f"`num_videos={num_videos}`: expected at most half of the {source.num_videos} "
      f"test videos of {dataset}; the others are what they are compared with"
    )
  frames = np.arange(length)
  truth = np.stack([source.read(i, frames) for i in range(2 * num_videos)])
  truth, reference = truth[:num_videos], truth[num_videos:]
  clips = truth[:, :num_obs]
  sampled, took = {}, {}
  for name in plan_names:
    by_plan.draw(out / f"scheme_{name}.png", model, name, length, num_obs)
    with clock(f"sample {name}"):
      folder = out / "samples" / name
      sampled[name], took[name] = by_plan.sample(
        folder, model, clips, name, length, fps=FPS
      )
  with clock("measure"):
    judge = Judge(reader, reference, num_obs)
    asked = judge.read(clips)
    baselines = {
      name: np.concatenate([clips, np.stack(made)], axis=1)
      for name, made in _baselines(clips, length - num_obs).items()
    }
    measured = {
      name: judge(videos, asked)
      for name, videos in {**sampled, REAL: truth, **baselines}.items()
    }
  best = max(plan_names, key=lambda name: _rank(measured[name]))
  results = {
    "data": dataset,
    "videos": num_videos,
    "length": length,
    "given_frames": num_obs,
    "steps": int(model.info["step"]),
    "best_plan": best,
    "model": {
      name: {**measured[name], "seconds": took[name]} for name in plan_names
    },
    "baselines": {name: measured[name] for name in (REAL, *baselines)},
    "seconds": dict(clock.seconds),
  }  # fmt: skip
  found = promised(measured[best], measured[COPIED], best)
  results["goals"] = [goal.to_json() for goal in found]
  results["note"] = goals.unfinished(results["steps"], USUAL_STEPS)
  draw(out, {"truth": truth, **sampled}, num_obs, dataset)
  text = [table(results), results["note"], goals.text(found)]
  (out / "table.txt").write_text("\n\n".join(filter(None, text)) + "\n")
  (out / "results.json").write_text(protocol.as_json(results))
  return json.loads((out / "results.json").read_text())


class Judge:
  """Measures long videos of one digit against real ones.

  Attributes:
    fastest: largest step of the real videos, in pixels.
  """

  def __init__(self, reader: digits.DigitReader, real: np.ndarray, num_obs: int):
    """Takes real videos uint8 [N, T, H, W, C], whose first frames will be given."""
    self._reader = reader
    self._observed = np.arange(real.shape[1]) < num_obs
    self._real = _walks(real, self._observed)
    self.fastest = float(np.nanmax(walk.speeds(self._real)))
    mass = motion.mass(real)
    self._faintest, self._brightest = np.quantile(mass, 0.01), mass.max()

  def read(self, videos: np.ndarray) -> np.ndarray:
    """Reads the digit [N] that the frames of each video show together."""
    return digits.most_likely(self._reader(videos)[0])

  def __call__(self, videos: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    """Measures {"value", "error"} for every key of `ROWS`, with jackknife errors.

    Args:
      videos: uint8 [N, T, H, W, C].
      asked: [N], the digit that was given.
    """
    new = videos[:, ~self._observed]
    walks = _walks(videos, self._observed)
    kept = self.read(videos[:, -LAST:]) == asked
    same = (self._reader(new)[0].argmax(-1) == asked[:, None]).mean(1)
    mass = motion.mass(new)
    gone = (mass < 0.5 * self._faintest) | (mass > 1.5 * self._brightest)
    threshold = self.fastest + 0.5

    def outliers(chosen):
      speed = walk.speeds([walks[i] for i in chosen])
      return float(np.mean(~(speed <= threshold)))  # NaN is an outlier, too.

    statistics = {
      "kept": lambda n: kept[n].mean(),
      "same": lambda n: same[n].mean(),
      "outliers": outliers,
      "speed_distance": lambda n: walk.speed_distance(
        [walks[i] for i in n], self._real, threshold
      ),
      "dissolved": lambda n: gone[n].mean(),
    }
    found = {}
    for key, statistic in statistics.items():
      value, error = jackknife.estimate(statistic, len(videos))
      found[key] = {"value": value, "error": error}
    return found


def _walks(videos: np.ndarray, observed: np.ndarray) -> list[walk.Walk]:
  centres = motion.centroids(videos)
  return [walk.Walk.of(centre, observed, 1.0) for centre in centres]


def _baselines(clips: np.ndarray, length: int) -> dict[str, list[np.ndarray]]:
  """Makes forecasts that need no learning, by name."""
  made = [forecast_scores.baselines(clip, length) for clip in clips]
  return {name: [of[name] for of in made] for name in made[0]}


def _rank(measured: Mapping[str, Any]) -> tuple[float, float]:
  """Ranks plans by how often the digit is kept, then by few jumps."""
  return measured["kept"]["value"], -measured["outliers"]["value"]


def promised(
  measured: Mapping[str, Any], copied: Mapping[str, Any], plan: str
) -> list[goals.Goal]:
  """Makes the goals from the measurements of the best plan and of the copied frame.

  A copy keeps its digit and never jumps, but it does not move like a digit.
  """
  value = {key: found["value"] for key, found in measured.items()}
  still = value["speed_distance"] / copied["speed_distance"]["value"]
  return [
    goals.Goal(f"{plan}: {ROWS['kept']}, share of videos", value["kept"], 0.75),
    goals.Goal(f"{plan}: {ROWS['outliers']}, share", value["outliers"], 0.05, False),
    goals.Goal(f"{plan}: {ROWS['dissolved']}, share", value["dissolved"], 0.0, False),
    goals.Goal(f"{plan}: WD, share of that of the {COPIED}", still, 0.5, False),
  ]


def draw(out: epath.Path, sets: Mapping[str, np.ndarray], num_obs, dataset) -> None:
  """Draws long.png, paths.png and long.gif of videos uint8 [N, T, H, W, C] by name."""
  length = next(iter(sets.values())).shape[1]
  places = np.unique(np.linspace(0, length - 1, COLUMNS).round().astype(int))
  rows, captions, borders = [], [], []
  for number in range(SHOWN):
    for name, videos in sets.items():
      rows.append(videos[number, places])
      captions.append(name)
      borders.append([sheet.OBSERVED if t < num_obs else None for t in places])
  sheet.write_contact_sheet(
    out / "long.png", rows, captions=captions, borders=borders, scale=3
  )
  size = next(iter(sets.values())).shape[2]
  half = moving_digits.MovingDigits.parse(dataset.partition("/")[2]).digit_size / 2
  figures.walks(
    out / "paths.png",
    {name: list(motion.centroids(videos[:4])) for name, videos in sets.items()},
    walls=np.zeros((0, 4)),
    bounds=(half - 3, half - 3, size - half + 2, size - half + 2),
    longest=2.0,
  )
  strips = [np.concatenate(list(videos[:6]), axis=2) for videos in sets.values()]
  # Six are side by side, so each has half the usual size.
  scale = max(1, video.visible_scale(size, size) // 2)
  video.write_gif(
    out / "long.gif", np.concatenate(strips, axis=1), fps=FPS, scale=scale
  )


def table(results: Mapping[str, Any]) -> str:
  """Formats the numbers as text, with one column per plan or baseline."""
  sets = {**results["model"], **results["baselines"]}
  rows = [["", *sets]]
  for key, title in ROWS.items():
    cells = [
      text_table.cell(
        found[key]["value"], found[key]["error"], percent=key != "speed_distance"
      )
      for found in sets.values()
    ]
    rows.append([title, *cells])
  seconds = [f"{found['seconds']:.0f}" for found in results["model"].values()]
  empty = ["-"] * len(results["baselines"])
  rows.append([f"seconds for {results['videos']} videos", *seconds, *empty])
  return (
    f"{results['videos']} videos of {results['length']} frames, "
    f"{results['given_frames']} given, of {results['data']}; {results['steps']} steps "
    f"of training\n{text_table.table(rows)}"
  )
