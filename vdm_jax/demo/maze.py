"""What `vdm-jax maze-demo` does: FDM in a maze, and does it make sense as a walk?

    OUT/
      train/             the run of the diffusion model
      position/          the run of the position regressor
      samples/PLAN/      sampled walks, as `vdm-jax sample` leaves them, a plan each
      scheme_PLAN.png    the plan as a picture
      walk/              what protocol `walk` says: WD, PO, and map.png, the sampled
                         walks on the map
      walks.gif          sampled walks of each plan (rows) side by side
      results.json       all numbers
      table.txt          the table

Walks begin with frames of test videos. A job that is stopped resumes where it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import experiment, pixels, sampling
from vdm_jax.data import source as sources
from vdm_jax.data import video
from vdm_jax.demo import by_plan, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol, walk_protocol
from vdm_jax.metrics import frechet

FPS = 8.75  # Of the maze.
_SIDE = 8  # Of the small frames that the Frechet distance is of.


def run(
  config: Mapping[str, Any],
  regressor: Mapping[str, Any],
  out: epath.PathLike,
  *,
  seconds: float,
  regressor_seconds: float,
  plan_names: Sequence[str] = ("hierarchy-2",),
  num_videos: int = 4,
  length: int = 100,
  num_obs: int = 10,
) -> dict[str, Any]:
  """Trains model and regressor, samples walks under each plan, measures and draws.

  Args:
    config: of an FDM on a maze, complete.
    regressor: of a position regressor, complete; its data become the model's.
    out: folder of the demo; what it holds is resumed.
    seconds: wall clock for training the model, in all.
    regressor_seconds: the same of the regressor.
    plan_names: sampling plans to compare.
    num_videos: walks under each plan, from as many test videos.
    length: frames of a walk.
    num_obs: frames of it that are given.

  Returns:
    What results.json holds.

  Raises:
    UserError: the config is not for a maze, or `out` holds another run.
    timed.Stopped: by a signal, while training.
  """
  if not config["data"]["name"].startswith("maze/"):
    raise UserError(
      f"config.data.name: expected a maze, found {config['data']['name']!r}"
    )
  out = epath.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  # Videos come at the end; samples on the way would take from the training.
  config = {**config, "train": {**config["train"], "num_samples": 0}}
  if config["task"]["name"] == "plan_stages":  # Of the walks that will be sampled.
    asked = {"length": length, "num_obs": num_obs, "plan_names": list(plan_names)}
    config["task"] = {**config["task"], **asked}
  shared = {key: config["data"][key] for key in ("name", "data_dir", "frame_shape")}
  regressor = {**regressor, "data": {**regressor["data"], **shared}}
  timed.say(
    "A walk that makes sense takes hours of training on a CPU and minutes on a GPU "
    f"(configs/fdm_maze.py); these are {seconds / 60:.0f} minutes. DEMO_SECONDS=N "
    "gives more, and resumes where the last call ended."
  )
  clock = timed.Clock()
  with clock("build the data"):
    sources.ensure_built(config["data"]["name"], config["data"]["data_dir"] or None)
  with clock("train the position regressor"):
    timed.train(regressor, str(out / "position"), regressor_seconds)
  with clock("train the diffusion model"):
    timed.train(config, str(out / "train"), seconds)

  model = sampling.load(str(out / "train"))
  places = range(num_obs)
  clips = experiment.given_clips(config, model.system, "test", num_videos, places)
  walks = {}
  for name in plan_names:
    by_plan.draw(out / f"scheme_{name}.png", model, name, length, num_obs)
    with clock(f"sample {name}"):
      folder = out / "samples" / name
      walks[name], _ = by_plan.sample(folder, model, clips, name, length, fps=FPS)
  with clock("measure"):
    folder = out / "walk"
    folder.rmtree(missing_ok=True)
    measured = protocol.evaluate(
      walk_protocol.WalkProtocol(
        samples=tuple(str(out / "samples" / name) for name in plan_names),
        regressor=str(out / "position"),
      ),
      folder,
    )
    real = real_frames(config, model.system)
    half = len(real) // 2
    frames = {
      "real": {
        "distance": frame_distance(real[:half], real[half:]), **light(real)
      }
    }  # fmt: skip
    for name, videos in walks.items():
      new = videos[:, num_obs:].reshape(-1, *videos.shape[2:])
      frames[name] = {"distance": frame_distance(new, real), **light(new)}
  strips = [np.concatenate(list(videos), axis=2) for videos in walks.values()]
  grid = np.concatenate(strips, axis=1)
  scale = video.visible_scale(*clips.shape[2:4])
  video.write_gif(out / "walks.gif", grid, fps=FPS, scale=scale)
  results = {
    "steps": int(model.info["step"]),
    "walk": measured.result,
    "frames": frames,
    "seconds": dict(clock.seconds),
  }
  text = table(measured.table, frames, results["steps"])
  (out / "table.txt").write_text(text + "\n")
  (out / "results.json").write_text(protocol.as_json(results))
  return results


def real_frames(config, system) -> np.ndarray:
  """All frames of the test videos, those of one video after the other."""
  source = experiment.open_split(config, system, "test")
  return np.concatenate(
    [source.read(i, np.arange(source.lengths[i])) for i in range(source.num_videos)]
  )


def frame_distance(first: np.ndarray, second: np.ndarray) -> float:
  """Frechet distance of frames uint8 [N, H, W, C], averaged to 8 x 8 pixels of [0, 1].

  Measures colours and coarse layout: frames that are blurred, or of no place of the
  maze, are far off; fine texture does not count.
  """

  def small(frames):
    return pixels.average(frames, _SIDE, _SIDE).reshape(len(frames), -1) / 255.0

  return frechet.distance_of_features(small(first), small(second))


def light(frames: np.ndarray) -> dict[str, float]:
  """Brightness, the mean of frames uint8 [N, H, W, C], and contrast, the standard
  deviation within a frame: blurred frames have little."""
  return {
    "brightness": float(frames.mean()),
    "contrast": float(frames.std(axis=(1, 2, 3)).mean()),
  }


def table(walk_table: str, frames: Mapping[str, Any], steps: int) -> str:
  """The protocol's table, and what frames look like."""
  rows = [
    ["frames", "Frechet distance", "brightness", "contrast"],
    *(
      [
        name,
        f"{of['distance']:.3f}",
        f"{of['brightness']:.1f}",
        f"{of['contrast']:.1f}",
      ]
      for name, of in frames.items()
    ),
  ]
  return "\n".join([
    walk_table,
    "",
    f"Model: {steps} steps. Frechet distance of frames to those of the test videos, at",
    "8 x 8 pixels (real: one half to the other); brightness and contrast of 255:",
    protocol.table(rows),
  ])  # fmt: skip
