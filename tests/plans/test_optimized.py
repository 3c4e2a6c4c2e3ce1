"""The greedy search, its file, and the plan that is made of it."""

import json

import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError
from vdm_jax.plans import optimized

SETTING = dict(length=20, num_obs=5, max_frames=6, step_size=3)


def likes_multiples(stage, observed, latent):
  """Best is to observe multiples of four, then early frames."""
  del stage, latent
  return sum(1.0 if frame % 4 else 0.1 * frame / 100 for frame in observed)


def search(path, metric=likes_multiples, name="autoreg", **options):
  return optimized.search(name, metric=metric, path=path, **(SETTING | options))


def build(path, length=20, num_obs=5, **options):
  return plans.build(
    "optimized", length=length, given=tuple(range(num_obs)), window=16,
    file=str(path), **options,
  )  # fmt: skip


def test_the_search_finds_what_the_metric_likes(tmp_path):
  path = tmp_path / "deep" / "found.json"
  found = search(path)
  assert found.stages[-1]["observed"] == [0, 4, 8]
  stages = list(plans.stages(build(path)))
  base = plans.build("autoreg", length=20, given=tuple(range(5)), window=6, step_size=3)
  for ours, theirs, expected in zip(
    stages, plans.stages(base), found.stages, strict=True
  ):
    assert (ours.index[ours.latent] == theirs.index[theirs.latent]).all()
    assert ours.index[ours.observed].tolist() == expected["observed"]


def test_a_killed_search_goes_on_where_it_was(tmp_path):
  asked = []

  def metric(stage, observed, latent):
    asked.append((stage, tuple(observed)))
    return likes_multiples(stage, observed, latent)

  whole = search(tmp_path / "whole.json", metric)
  expected = asked.copy()
  assert len(set(expected)) == len(expected)

  path = tmp_path / "killed.json"
  for after in (1, 7, 20):
    asked.clear()

    def killed(stage, observed, latent, after=after):
      if len(asked) == after:
        raise KeyboardInterrupt
      return metric(stage, observed, latent)

    with pytest.raises(KeyboardInterrupt):
      search(path, killed)
    with pytest.raises(UserError, match="of 5 stages; run"):
      build(path)
  asked.clear()
  assert search(path, metric).stages == whole.stages
  # Nothing is asked twice: 1 + 7 + 20 answers are kept.
  assert asked == expected[28:]


def test_nearby_frames_are_observed_in_any_case(tmp_path):
  found = search(tmp_path / "x.json", name="hierarchy-2", max_frames=8, nearby=True)
  exists, behind = set(range(5)), 0
  for stage in found.stages:
    first, last = stage["latent"][0], stage["latent"][-1]
    assert max(frame for frame in exists if frame < first) in stage["observed"]
    after = [frame for frame in exists if frame > last]
    assert not after or min(after) in stage["observed"]
    behind += bool(after)
    exists |= set(stage["latent"])
  assert behind


OWN = """
def by_threes(length, given, window):
  exists = list(given)
  while len(exists) < length:
    latent = list(range(len(exists), min(len(exists) + 3, length)))
    yield exists[-(window - 3):], latent
    exists += latent


def in_steps(length, given, window, max_frames, step_size=3):
  assert window == max_frames and step_size == 3
  return by_threes(length, given, window)
"""


@pytest.mark.parametrize(("name", "step_size"), [("by_threes", None), ("in_steps", 3)])
def test_a_plan_of_ones_own_is_optimized(tmp_path, name, step_size):
  (tmp_path / "own.py").write_text(OWN)
  path = tmp_path / "x.json"
  found = search(path, name=f"{tmp_path}/own.py:{name}", step_size=step_size)
  assert found.plan["step_size"] == step_size
  assert found.stages == search(tmp_path / "autoreg.json").stages
  assert len(list(plans.stages(build(path)))) == 5
  assert search(path, name=f"{tmp_path}/own.py:{name}", step_size=step_size) == found


def test_where_all_frames_fit_nothing_is_asked(tmp_path):
  def metric(*_):
    raise AssertionError("asked")

  found = search(tmp_path / "x.json", metric, length=6, num_obs=3)
  assert found.stages == [{"observed": [0, 1, 2], "latent": [3, 4, 5]}]


def test_mistakes_are_named(tmp_path):
  path = tmp_path / "found.json"
  with pytest.raises(UserError, match="no such file; vdm-jax plan optimize writes it"):
    build(path)
  with pytest.raises(UserError, match="expected file="):
    plans.build("optimized", length=4, given=(), window=4)
  with pytest.raises(UserError, match="metric is nan at stage 0"):
    search(tmp_path / "nan.json", lambda *_: float("nan"))
  with pytest.raises(UserError, match="chooses what it observes itself"):
    search(path, name="adaptive-autoreg")
  search(path, settings={"seed": 1})
  with pytest.raises(UserError, match="holds a search with metric="):
    search(path, settings={"seed": 2})
  for options, message in (
    (dict(length=21), "is for length=20, found 21"),
    (dict(num_obs=4), "is for num_obs=5, found 4"),
    (dict(base="long-range"), "is for name=autoreg, found long-range"),
    (dict(step_size=2), "is for step_size=3, found 2"),
  ):
    with pytest.raises(UserError, match=message):
      build(path, **options)
  path.write_text(json.dumps({"stages": []}))
  with pytest.raises(UserError, match="expected a file that"):
    build(path)
  path.write_text("{")
  with pytest.raises(UserError, match="expected a JSON file"):
    build(path)
