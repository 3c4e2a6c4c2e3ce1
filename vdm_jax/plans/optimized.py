"""Observation schedules that lower a model's loss (FDM's optimized schemes).

An existing plan says which frames a stage samples; those it observes are found by a
greedy search: the frame that lowers a metric the most is added, until the window is
full. For each stage the metric is computed about (frames that exist) times (frames to
observe) times, so the search saves its state in the file that will hold the result.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vdm_jax import atomic
from vdm_jax.errors import UserError
from vdm_jax.plans import outline as outline_lib
from vdm_jax.plans import plan as plan_lib

# Maps (number of the stage, observed frames, latent frames) to a value to minimise.
Metric = Callable[[int, Sequence[int], Sequence[int]], float]
_KEYS = {"plan", "nearby", "metric", "num_stages", "stages", "current"}


@dataclasses.dataclass
class Search:
  """The state of a search, finished or not, as its file holds it.

  Attributes:
    path: path of the JSON file.
    plan: the plan of the schedule: name, length, num_obs, max_frames, step_size (None
      for a plan without one).
    nearby: whether a stage starts from the existing frames next to its latent ones.
    metric: settings of the metric, which a resumed search must share.
    num_stages: number of stages of the plan.
    stages: {"observed": [...], "latent": [...]} of the finished stages, sorted.
    current: of the unfinished stage, the frames "observed" so far and the "scores" of
      this round by candidate.
  """

  path: pathlib.Path
  plan: Mapping[str, Any]
  nearby: bool
  metric: Mapping[str, Any]
  num_stages: int
  stages: list[dict[str, list[int]]] = dataclasses.field(default_factory=list)
  current: dict[str, Any] | None = None

  def save(self) -> None:
    """Writes the file; if killed meanwhile, the old or the new file is left intact."""
    values = {key: getattr(self, key) for key in sorted(_KEYS)}
    atomic.write(self.path, json.dumps(values))


def load(path: str | os.PathLike) -> Search:
  """Reads a file that `search` wrote.

  Raises:
    UserError: there is no such file, or it is of another kind.
  """
  try:
    values = json.loads(pathlib.Path(path).read_text())
  except FileNotFoundError:
    raise UserError(f"{path}: no such file; vdm-jax plan optimize writes it") from None
  except (OSError, ValueError) as error:
    raise UserError(f"{path}: expected a JSON file ({error})") from None
  if not isinstance(values, dict) or set(values) != _KEYS:
    raise UserError(f"{path}: expected a file that vdm-jax plan optimize wrote")
  return Search(pathlib.Path(path), **values)


def search(
  name: str,
  *,
  length: int,
  num_obs: int,
  max_frames: int,
  step_size: int | None = None,
  metric: Metric,
  path: str | os.PathLike,
  nearby: bool = False,
  settings: Mapping[str, Any] | None = None,
  progress: Callable[[Iterable], Iterable] = iter,
) -> Search:
  """Searches for the frames that each stage of a plan should observe, or resumes.

  Args:
    name: name of the plan that says what is sampled; it must not depend on the video.
    length: frames of the finished video.
    num_obs: number of given frames, at the start.
    max_frames: frames of a full window.
    step_size: step size of the plan, if it has one; None for its default.
    metric: value of an observed set, to be minimised; ties go to the earliest frame.
    path: path of the file. The search of an unfinished one is resumed.
    nearby: whether to start from the last existing frame before the latent ones and the
      first after them, instead of from nothing.
    settings: settings of the metric, JSON-serialisable. A search can be resumed only
      with the same ones.
    progress: wraps the numbers of the stages, to show progress.

  Raises:
    UserError: the plan depends on the video, the metric is not finite, or the file is
      that of another search.
  """
  # A plan of one's own need not have an option that says what `window` does.
  sized = {"max_frames": max_frames} if plan_lib.takes(name, "max_frames") else {}
  plan = plan_lib.build(
    name,
    length=length,
    given=tuple(range(num_obs)),
    window=max_frames,
    step_size=step_size,
    **sized,
  )
  outline = outline_lib.summary(plan)
  if outline.looks_at_video:
    raise UserError(f"plan {name}: chooses what it observes itself, by the video")
  fresh = Search(
    path=pathlib.Path(path),
    plan={
      "name": name,
      "length": length,
      "num_obs": num_obs,
      "max_frames": max_frames,
      "step_size": getattr(plan, "step_size", step_size),
    },
    nearby=nearby,
    metric=json.loads(json.dumps(dict(settings or {}))),
    num_stages=len(outline.stages),
  )
  found = _resume(fresh) if fresh.path.exists() else fresh
  exists = set(range(num_obs))
  for number in progress(range(len(outline.stages))):
    _, latent = outline.stages[number]
    if number >= len(found.stages):
      room = max_frames - len(latent)
      observed = _fill(found, number, sorted(exists), latent, room, metric)
      found.stages.append({"observed": sorted(observed), "latent": list(latent)})
      found.current = None
      found.save()
    exists |= set(latent)
  return found


def _resume(fresh: Search) -> Search:
  found = load(fresh.path)
  for key in ("plan", "nearby", "metric"):
    if (ours := getattr(fresh, key)) != (theirs := getattr(found, key)):
      raise UserError(
        f"{fresh.path}: holds a search with {key}={theirs}, asked for {ours}; choose "
        "another file or the same settings"
      )
  return found


def _fill(found, number, exists, latent, room, metric) -> list[int]:
  """Searches for the frames that a stage observes."""
  if len(exists) <= room:
    return exists
  if found.current is None:
    observed = []
    if found.nearby:
      before = [frame for frame in exists if frame < latent[0]]
      behind = [frame for frame in exists if frame > latent[-1]]
      observed = [*before[-1:], *behind[:1]][:room]
    found.current = {"observed": observed, "scores": {}}
  observed, scores = found.current["observed"], found.current["scores"]
  while len(observed) < room:
    for frame in exists:
      if frame in observed or str(frame) in scores:
        continue
      value = float(metric(number, sorted([*observed, frame]), latent))
      if not math.isfinite(value):
        raise UserError(f"plan optimize: the metric is {value} at stage {number}")
      scores[str(frame)] = value
      found.save()
    observed.append(
      min(map(int, scores), key=lambda frame: (scores[str(frame)], frame))
    )
    scores.clear()
  return observed


def from_file(
  length: int,
  given: tuple[int, ...],
  window: int,
  file: str = "",
  base: str | None = None,
  max_frames: int | None = None,
  step_size: int | None = None,
) -> plan_lib.Listed:
  """Builds another plan's stages with the frames that `plan optimize` found.

  Args:
    length: frames of the finished video.
    given: frames that exist already, which are the first ones.
    window: frames that the model was trained with; the file's max_frames takes effect.
    file: file that `vdm-jax plan optimize` wrote.
    base: expected name of the plan that it was made from; None to skip the check.
    max_frames: expected frames of a window; None to skip the check.
    step_size: expected step size; None to skip the check.

  Raises:
    UserError: the file is missing, unfinished, or for other settings.
  """
  del window
  if not file:
    raise UserError("plan optimized: expected file=, which vdm-jax plan optimize wrote")
  found = load(file)
  asked = {
    "length": length,
    "num_obs": len(given),
    "name": base,
    "max_frames": max_frames,
    "step_size": step_size,
  }
  for key, value in asked.items():
    if value is not None and value != found.plan[key]:
      raise UserError(f"{file}: is for {key}={found.plan[key]}, found {value}")
  if sorted(given) != list(range(len(given))):
    raise UserError(
      "plan optimized: expected the first frames of the video as given ones, found "
      f"{sorted(given)[:10]}"
    )
  if len(found.stages) < found.num_stages:
    raise UserError(
      f"{file}: the search has finished {len(found.stages)} of {found.num_stages} "
      "stages; run vdm-jax plan optimize again with the same arguments"
    )
  pairs = tuple((stage["observed"], stage["latent"]) for stage in found.stages)
  return plan_lib.Listed(length, tuple(given), pairs, found.plan["max_frames"])
