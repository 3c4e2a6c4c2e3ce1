"""The demo `vdm-jax maze-demo`: FDM's videos of a maze, judged as walks.

    OUT/
      train/             the run of the diffusion model
      position/          the run of the position regressor
      samples/PLAN/      sampled walks of a plan, as `vdm-jax sample` leaves them
      scheme_PLAN.png    the plan as a picture
      walk/              results of protocol `walk`: WD, PO, and map.png, the sampled
                         walks on the map
      walks.gif          sampled walks of each plan (rows) side by side
      results.json       all numbers
      table.txt          the table

Walks begin with frames of test videos. The same command resumes a stopped job.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import pixels, run_data, sampling, text_table
from vdm_jax.data import source as sources
from vdm_jax.data import video
from vdm_jax.demo import by_plan, timed
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol, walk_protocol
from vdm_jax.metrics import frechet

FPS = 8.75  # Frames per second of the maze's videos.
_SIDE = 8  # Height and width to which frames are averaged for the Frechet distance.


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
    config: complete config of an FDM on a maze.
    regressor: complete config of a position regressor; it takes the model's data.
    out: folder of the demo; an unfinished one is resumed.
    seconds: total wall-clock seconds for training the model.
    regressor_seconds: total wall-clock seconds for training the regressor.
    plan_names: sampling plans to compare.
    num_videos: number of walks per plan, from as many test videos.
    length: frames per walk.
    num_obs: number of given frames.

  Returns:
    The contents of results.json.

  Raises:
    UserError: the config is not for a maze, or `out` holds another run.
    timed.Stopped: a signal came during training.
  """
  if not config["data"]["name"].startswith("maze/"):
    raise UserError(
      f"config.data.name: expected a maze, found {config['data']['name']!r}"
    )
  out = epath.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  # Videos are sampled at the end; samples on the way would take training time.
  config = {**config, "train": {**config["train"], "num_samples": 0}}
  if config["task"]["name"] == "plan_stages":  # As in sampling.
    asked = {"length": length, "num_obs": num_obs, "plan_names": list(plan_names)}
    config["task"] = {**config["task"], **asked}
  shared = {key: config["data"][key] for key in ("name", "data_dir", "frame_shape")}
  regressor = {**regressor, "data": {**regressor["data"], **shared}}
  timed.say(
    "A walk that makes sense takes hours of training on a CPU and minutes on a GPU "
    f"(configs/fdm_maze.py); this demo takes {seconds / 60:.0f} minutes. "
    "DEMO_SECONDS=N sets the time, and resumes where the last call ended."
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
  clips = run_data.given_clips(config, model.system, "test", num_videos, places)
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
  """Reads all frames of the test videos, one video after the other."""
  source = run_data.open_split(config, system, "test")
  return np.concatenate(
    [source.read(i, np.arange(source.lengths[i])) for i in range(source.num_videos)]
  )


def frame_distance(first: np.ndarray, second: np.ndarray) -> float:
  """Computes the Frechet distance of frames uint8 [N, H, W, C] averaged to 8 x 8.

  It measures colours and coarse layout: frames that are blurred, or show no place of
  the maze, are far off; fine texture does not count.
  """

  def small(frames):
    return pixels.average(frames, _SIDE, _SIDE).reshape(len(frames), -1) / 255.0

  return frechet.distance_of_features(small(first), small(second))


def light(frames: np.ndarray) -> dict[str, float]:
  """Measures brightness (mean) and contrast (standard deviation within a frame)."""
  return {
    "brightness": float(frames.mean()),
    "contrast": float(frames.std(axis=(1, 2, 3)).mean()),
  }


def table(walk_table: str, frames: Mapping[str, Any], steps: int) -> str:
  """Formats the protocol's table, and measures of the frames."""
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
    text_table.table(rows),
  ])  # fmt: skip
