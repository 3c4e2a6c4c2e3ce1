"""The tasks of VDM: distributions over frames, tested as such."""

import numpy as np
import pytest
from scipy import stats

from vdm_jax import tasks
from vdm_jax.errors import UserError


def test_every_start_is_equally_likely_the_last_one_included():
  task = tasks.build(
    {"name": "unconditional", "num_frames": 4, "stride": 2, "flip": True}
  )
  assert task.min_length == 7
  rng = np.random.default_rng(0)
  draws = [task.sample(rng, [12]) for _ in range(6000)]
  starts = np.array([draw.index[0] for draw in draws])
  counts = np.bincount(starts, minlength=6)
  assert len(counts) == 6
  assert stats.chisquare(counts).pvalue > 1e-4
  assert abs(np.mean([draw.flip for draw in draws]) - 0.5) < 0.03
  for draw in draws[:50]:
    assert set(np.diff(draw.index)) == {2}
    assert draw.latent.all() and not draw.observed.any()
    assert not draw.group.any() and not draw.source.any()


def test_joint_images_are_frames_of_other_videos_in_groups_of_their_own():
  task = tasks.build({"name": "joint_images", "num_frames": 3, "num_images": 2})
  assert (task.num_frames, task.num_sources, task.min_length) == (5, 3, 3)
  assert (task.window, task.stride, task.min_given) == (3, 1, 0)
  rng = np.random.default_rng(0)
  draws = [task.sample(rng, [3, 5, 8]) for _ in range(4000)]
  first = np.bincount([draw.index[3] for draw in draws], minlength=5)
  second = np.bincount([draw.index[4] for draw in draws], minlength=8)
  assert stats.chisquare(first).pvalue > 1e-4
  assert stats.chisquare(second).pvalue > 1e-4
  np.testing.assert_array_equal(draws[0].group, [0, 0, 0, 1, 2])
  np.testing.assert_array_equal(draws[0].source, [0, 0, 0, 1, 2])
  assert draws[0].latent.all()


def test_no_images_is_the_plain_clip():
  joint = tasks.build({"name": "joint_images", "num_frames": 3, "num_images": 0})
  plain = tasks.build({"name": "unconditional", "num_frames": 3})
  one = joint.sample(np.random.default_rng(7), [9])
  other = plain.sample(np.random.default_rng(7), [9])
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


MINE = """
import dataclasses
from vdm_jax import tasks

nothing = None


@dataclasses.dataclass
class Ends(tasks.Task):
  num_frames: int

  min_length = 2

  def sample(self, rng, lengths):
    raise NotImplementedError


@dataclasses.dataclass
class Half:
  num_frames: int
"""


def test_a_task_of_ones_own_is_named_by_its_file(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(MINE)
  task = tasks.build({"name": f"{path}:Ends", "num_frames": 4})
  assert (task.num_frames, task.window, task.num_sources, task.min_given) == (
    4,
    4,
    1,
    0,
  )
  for name, message in (
    ("Ends", "^config.task.num_frames: missing$"),
    ("End", "Did you mean 'Ends'"),
    ("nothing", "expected a class or function, .* of type NoneType"),
  ):
    with pytest.raises(UserError, match=message):
      tasks.build({"name": f"{path}:{name}"})
  lacks = "to return a task, found a Half without min_length, .*, window, sample$"
  with pytest.raises(UserError, match=lacks):
    tasks.build({"name": f"{path}:Half", "num_frames": 4})


@pytest.mark.parametrize(
  "config, message",
  [
    ({"name": "unconditonal", "num_frames": 4}, "Did you mean 'unconditional'"),
    ({"name": "unconditional", "num_frame": 4}, "Did you mean 'num_frames'"),
    ({"name": "unconditional", "num_frames": 0}, "num_frames: expected >= 1"),
    ({"name": "unconditional", "num_frames": 4, "stride": 0}, "stride: expected"),
    ({"name": "joint_images", "num_frames": 4, "num_images": -1}, "num_images"),
    ({"name": "joint_images", "num_frames": 4}, "^config.task.num_images: missing$"),
    ({"num_frames": 4}, "^config.task.name: missing$"),
  ],
)
def test_mistakes_are_named(config, message):
  with pytest.raises(UserError, match=message):
    tasks.build(config)
