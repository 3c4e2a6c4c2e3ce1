"""Long videos of one model under several plans, which are sampled once and kept."""

import json
import time
from typing import Any

import numpy as np
from etils import epath

from vdm_jax import plans, sampling
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.plans import outline
from vdm_jax.sampling import save


def sample(
  folder: epath.Path,
  model: sampling.Model,
  clips: np.ndarray,
  name: str,
  length: int,
  *,
  fps: float,
) -> tuple[np.ndarray, float]:
  """Samples videos by a plan from given frames, or reads them if they exist.

  A job that is stopped resumes after its last finished window.

  Args:
    folder: folder of the samples.
    model: model that samples.
    clips: uint8 [N, K, H, W, C], the first frames of the first test videos.
    name: name of the plan.
    length: frames T of the videos.
    fps: frames per second of the videos.

  Returns:
    uint8 [N, T, H, W, C], and the seconds of sampling, compilation included.
  """
  count, num_obs = clips.shape[:2]
  record = save.describe(
    model,
    plan=name,
    seed=0,
    length=length,
    settings=dict(model.info["config"]["sampling"]),
    given={
      "data": model.info["config"]["data"]["name"],
      "split": "test",
      "videos": list(range(count)),
    },
    given_frames=list(range(num_obs)),
  )
  noted = folder / "seconds.json"
  if (folder / "record.json").exists():
    if save.read_record(folder) == record and noted.exists():
      return save.read(folder), json.loads(noted.read_text())["seconds"]
    folder.rmtree()  # The model has been trained further since.
  start = time.monotonic()
  videos = model.sample(
    count,
    length=length,
    given=to_float(clips),
    plan=name,
    plan_options=options(model),
    batch_size=count,
    progress=True,
    unfinished=folder / save.UNFINISHED,
  )
  seconds = round(time.monotonic() - start, 1)
  observed = np.arange(length) < num_obs
  save.save(folder, videos, record, observed=observed, fps=fps)
  noted.write_text(json.dumps({"seconds": seconds}) + "\n")
  return to_uint8(videos), seconds


def draw(path, model: sampling.Model, name: str, length: int, num_obs: int) -> None:
  """Draws a plan as this model runs it."""
  plan = plans.build(
    name,
    length=length,
    given=tuple(range(num_obs)),
    window=model.system.window,
    **options(model),
  )
  outline.draw(plan, str(path), f"{name}: {length} frames, {num_obs} given")


def options(model: sampling.Model) -> dict[str, Any]:
  """Returns window and step of the config's plan, for use in all plans."""
  found = model.system.plan_options
  return {key: found[key] for key in ("max_frames", "step_size") if key in found}
