"""Windows of training that are those of sampling."""

import collections

import numpy as np
import pytest
from scipy import stats

from vdm_jax import plans, tasks
from vdm_jax.errors import UserError

FIELDS = dict(
  plan_names=("hierarchy-2", "autoreg"), length=29, num_obs=6, max_frames=8,
  options={"step_size": 4},
)  # fmt: skip


def task(**changed):
  return tasks.build({"name": "plan_stages", **FIELDS, **changed})


def stages(name):
  """(observed, latent) of every stage, as sampling has them."""
  plan = plans.build(
    name, length=29, given=tuple(range(6)), window=8, max_frames=8, step_size=4
  )
  return [
    (tuple(sorted(f.index[f.observed])), tuple(sorted(f.index[f.latent])))
    for f in plans.stages(plan)
  ]


def test_windows_are_the_stages_each_as_often_as_it_should_be():
  rng, count, found = np.random.default_rng(0), 6000, collections.Counter()
  one, paddings = task(), []
  for _ in range(count):
    s = one.sample(rng, [29, 41])
    assert len(s.index) == 8 and not (s.observed & s.latent).any()
    padding = ~(s.observed | s.latent)
    np.testing.assert_array_equal(s.source, padding)
    paddings.extend(s.index[padding])
    found[tuple(s.index[s.observed]), tuple(s.index[s.latent])] += 1
  expected = collections.Counter()
  for name in FIELDS["plan_names"]:
    for stage in stages(name):
      expected[stage] += count / 2 / len(stages(name))
  assert set(found) == set(expected)
  keys = sorted(expected)
  test = stats.chisquare([found[k] for k in keys], [expected[k] for k in keys])
  assert test.pvalue > 1e-4
  assert set(paddings) == set(range(41))


def test_places_in_longer_videos_are_uniform():
  rng = np.random.default_rng(1)
  one = task(plan_names=("autoreg",))
  firsts = []
  for _ in range(4000):
    s = one.sample(rng, [33, 29])
    # The stages of this plan, moved: the first latent frame is 6, 10, ...
    firsts.append((s.index[s.latent][0] - 6) % 4)
    assert s.index.max() < 33
  # Five places, 0 to 4; 0 and 4 look alike.
  counts = np.bincount(firsts)
  assert stats.chisquare(counts, np.array([2, 1, 1, 1]) * 800).pvalue > 1e-4


def test_a_plan_of_ones_own_that_looks_is_refused_and_one_that_does_not_is_taken(
  tmp_path,
):
  path = tmp_path / "mine.py"
  path.write_text(
    "from vdm_jax import plans\n"
    "class Blind(plans.Autoreg):\n  pass\n"
    "class Looks(Blind):\n  looks_at_video = True\n"
  )
  blind = task(plan_names=(f"{path}:Blind",))
  assert blind.stages == task(plan_names=("autoreg",)).stages
  with pytest.raises(UserError, match="mine.py:Looks' looks at the video"):
    task(plan_names=(f"{path}:Looks",))


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"plan_names": ()}, "a list of plans"),
    ({"plan_names": "autoreg"}, "a list of plans, found 'autoreg'"),
    ({"num_obs": 29}, "num_obs: expected 0 to 28"),
    ({"num_obs": -1}, "num_obs: expected 0 to 28"),
    ({"options": {"max_frames": 8}}, "max_frames is a field of the task"),
    ({"plan_names": ("adaptive-autoreg",)}, "looks at the video"),
    ({"plan_names": ("nonsense",)}, "plan .*nonsense"),
    ({"max_frames": 4}, "step_size|max_frames"),
  ],
)
def test_fields_that_do_not_work_are_named(changed, message):
  with pytest.raises(UserError, match=message):
    task(**changed)


def test_a_video_that_is_too_short_is_named():
  with pytest.raises(UserError, match="videos of 29 frames or more, found 28"):
    task().sample(np.random.default_rng(0), [29, 28])
