"""Golden cases of plans and tasks: which frames, in which order, how often."""

import pathlib
import tempfile
from collections import defaultdict

import numpy as np

from tests.golden import case as case_lib
from tests.golden import statistics
from vdm_jax import plans
from vdm_jax.errors import UserError
from vdm_jax.plans import optimized
from vdm_jax.tasks import random_subsets

_DRAWS = 100_000


def _counts(columns: dict[str, list], sizes: dict[str, int]) -> statistics.Counts:
  return {name: statistics.histogram(columns[name], sizes[name]) for name in sizes}


def _mask_counts(rng, setting: dict) -> statistics.Counts:
  """Histograms of whole windows."""
  length, size = setting["video_length"], setting["max_frames"] + 1
  values = defaultdict(list)
  joint = np.zeros((size, size), np.int64)
  orders = dict.fromkeys(setting["masks"]["order_type"], 0)
  for _ in range(_DRAWS):
    roles = random_subsets.draw_roles(rng, length, setting["max_frames"])
    selected = sorted(roles)
    observed = [i for i in selected if roles[i]]
    latent = [i for i in selected if not roles[i]]
    joint[len(observed), len(latent)] += 1
    values["num_obs"].append(len(observed))
    values["num_latent"].append(len(latent))
    values["num_padding"].append(setting["max_frames"] - len(selected))
    values["first_selected_index"].append(selected[0])
    values["last_selected_index"].append(selected[-1])
    values["span_last_minus_first"].append(selected[-1] - selected[0])
    for name, frames in (("latents", latent), ("selected", selected)):
      if len(frames) > 1:
        gap = frames[1] - frames[0]
        values[f"first_gap_between_{name}_one_per_draw"].append(gap)
    if not observed:
      orders["no_observed"] += 1
    elif observed[-1] < latent[0]:
      orders["all_observed_before_all_latent"] += 1
    else:
      orders["mixed_order"] += 1
  sizes = {name: len(setting["masks"][name]) for name in values}
  return _counts(values, sizes) | {
    "joint_num_obs_by_num_latent": joint,
    "order_type": np.array(list(orders.values())),
  }


def _group_counts(rng, setting: dict) -> statistics.Counts:
  """Histograms of single groups."""
  length, max_frames = setting["video_length"], setting["max_frames"]
  values, gaps = defaultdict(list), defaultdict(list)
  for _ in range(_DRAWS):
    group = random_subsets.draw_group(rng, length, max_frames)
    values["group_size"].append(len(group))
    values["first_index"].append(group[0])
    if len(group) > 1:
      gaps[str(len(group))].append(group[1] - group[0])
  expected = setting["groups"]
  counts = _counts(values, {name: len(expected[name]) for name in values})
  for size, histogram in expected["first_gap_one_per_draw_by_group_size"].items():
    found = statistics.histogram(gaps[size], len(histogram))
    counts[f"first_gap_one_per_draw_by_group_size/{size}"] = found
  return counts


def _independent(histograms: dict) -> statistics.Counts:
  """The histograms of which every draw is one entry, by name."""
  once = (
    "num_obs",
    "num_latent",
    "num_padding",
    "joint_num_obs_by_num_latent",
    "first_selected_index",
    "last_selected_index",
    "span_last_minus_first",
    "group_size",
    "first_index",
  )
  result = {}
  for name, value in histograms.items():
    if name == "order_type":
      result[name] = np.array(list(value.values()))
    elif isinstance(value, dict) and "one_per_draw" in name:
      result |= {f"{name}/{key}": counts for key, counts in value.items()}
    elif name in once or "one_per_draw" in name:
      result[name] = value
  return result


def fdm_mask_stats(case: case_lib.Case) -> case_lib.Errors:
  """p-values of the task's draws against the authors'."""
  rng, errors = np.random.default_rng(0), {}
  for setting in case.meta["settings"]:
    prefix = f"{setting['video_length']}_{setting['max_frames']}"
    for part, draw in (("masks", _mask_counts), ("groups", _group_counts)):
      expected = _independent(setting[part])
      found = draw(rng, setting)
      errors |= statistics.p_values(found, expected, f"{prefix}/{part}/")
  return errors


def _plan(case: dict, **options) -> plans.Plan:
  return plans.build(
    case["scheme"],
    length=case["video_length"],
    given=tuple(range(case["num_obs"])),
    window=case["max_frames"],
    max_frames=case["max_frames"],
    step_size=case["step_size"],
    **options,
  )


def _listed(frames) -> list[list[list[int]]]:
  """[observed, latent] of a stage, each by video, in the order of the slots."""
  return [
    [index[mask].tolist() for index, mask in zip(frames.index, part, strict=True)]
    for part in (frames.observed, frames.latent)
  ]


def _refused_or_whole(case: dict) -> bool:
  """Whether a setting that the reference trips over gives an error or a sound plan."""
  try:
    return bool(list(plans.stages(_plan(case))))
  except UserError:
    return True


def fdm_schemes(case: case_lib.Case) -> case_lib.Errors:
  """Cases whose stages differ, in frames or order; and badly handled odd ones."""
  errors = defaultdict(int)
  for setting in case.meta["cases"]:
    if setting["quirks"]:
      errors[f"{setting['scheme']}/odd"] += not _refused_or_whole(setting)
      continue
    found = [_listed(frames) for frames in plans.stages(_plan(setting))]
    expected = [[[observed], [latent]] for observed, latent in setting["steps"]]
    errors[setting["scheme"]] += found != expected
  for setting in case.meta["rejected_by_reference"]:
    errors["rejected_by_reference"] += not _refused_or_whole(setting)
  return dict(errors)


def fdm_schemes_original(case: case_lib.Case) -> case_lib.Errors:
  """The same of the older code's modes, whose order within a stage says nothing."""
  errors = defaultdict(int)
  for setting in case.meta["cases"]:
    if setting["quirks"]:
      errors[f"{setting['scheme']}/odd"] += not _refused_or_whole(setting)
      continue
    found = [
      [sorted(rows[0]) for rows in _listed(frames)]
      for frames in plans.stages(_plan(setting))
    ]
    expected = [[sorted(frames) for frames in stage] for stage in setting["steps"]]
    errors[setting["scheme"]] += found != expected
  for setting in case.meta["rejected_by_reference"]:
    errors["rejected_by_reference"] += not _refused_or_whole(setting)
  return dict(errors)


def fdm_adaptive(case: case_lib.Case) -> case_lib.Errors:
  """The same of adaptive schemes; a frame is its own embedding here."""
  companion = case_lib.load(case.path.parent / case.meta["meta"]["embeddings_file"])
  errors = defaultdict(int)
  for setting in case.meta["cases"]:
    if setting["quirks"]:
      errors[f"{setting['scheme']}/odd"] += not _refused_or_whole(setting)
      continue
    vectors = companion.arrays[f"in/embeddings_{setting['id']}"]
    video = vectors[:, :, None, None, :]
    plan = _plan(setting, embedding=lambda frames: frames[:, 0, 0])
    found, state, exists = [], plan.start(), set(plan.given)
    while (following := plan.next(state, video)) is not None:
      frames, state = following
      exists = plans.check_stage(plan, frames, exists)
      found.append(_both_videos(_listed(frames), len(video)))
    errors[setting["scheme"]] += found != setting["steps"]
  for setting in case.meta["rejected_by_reference"]:
    errors["rejected_by_reference"] += not _refused_or_whole(setting)
  return dict(errors)


def _both_videos(stage: list, count: int) -> list:
  """A stage with one row (it observes nothing) written out for every video."""
  return [rows * count if len(rows) == 1 else rows for rows in stage]


def fdm_optimised_schedule(case: case_lib.Case) -> case_lib.Errors:
  """Stages that observe other frames; the metric is a table of the sets to be asked."""
  errors = defaultdict(int)
  for setting in case.meta["cases"]:
    stages = setting["stages"]

    def metric(number, observed, latent, stages=stages):
      del latent
      return stages[number]["metric_of_observed_set"][" ".join(map(str, observed))]

    with tempfile.TemporaryDirectory() as folder:
      found = optimized.search(
        setting["scheme"],
        length=setting["video_length"],
        num_obs=setting["num_obs"],
        max_frames=setting["max_frames"],
        step_size=setting["step_size"],
        metric=metric,
        path=pathlib.Path(folder, "search.json"),
        nearby=setting["optimality"].endswith("force-nearby"),
      ).stages
    expected = [
      {"observed": stage["chosen_observed"] or [], "latent": stage["latent"]}
      for stage in stages
    ]
    wrong = abs(len(found) - len(expected))
    wrong += sum(a != b for a, b in zip(found, expected, strict=False))
    errors[f"{setting['scheme']}/{setting['optimality']}"] += wrong
  return dict(errors)


KINDS = {
  "fdm_mask_stats": fdm_mask_stats,
  "fdm_schemes": fdm_schemes,
  "fdm_schemes_original": fdm_schemes_original,
  "fdm_adaptive": fdm_adaptive,
  "fdm_optimised_schedule": fdm_optimised_schedule,
}
