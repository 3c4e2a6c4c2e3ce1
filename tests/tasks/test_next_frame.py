"""RVD's task: all frames given, all but the first scored."""

import numpy as np
import pytest
from scipy import stats

from vdm_jax import tasks
from vdm_jax.errors import UserError


def test_frames_after_the_context_are_teacher_forced():
  task = tasks.build(
    {"name": "next_frame", "num_frames": 5, "num_context": 2, "stride": 2, "flip": True}
  )
  assert (task.num_frames, task.num_sources, task.min_length) == (5, 1, 9)
  assert (task.window, task.stride, task.min_given) == (5, 2, 2)
  rng = np.random.default_rng(0)
  draws = [task.sample(rng, [12]) for _ in range(4000)]
  starts = np.bincount([draw.index[0] for draw in draws], minlength=4)
  assert len(starts) == 4 and stats.chisquare(starts).pvalue > 1e-4
  assert abs(np.mean([draw.flip for draw in draws]) - 0.5) < 0.03
  for draw in draws[:20]:
    assert set(np.diff(draw.index)) == {2}
    assert draw.observed.all() and not draw.group.any() and not draw.source.any()
    assert draw.latent.tolist() == [False, False, True, True, True]


def test_a_stride_below_one_is_named():
  with pytest.raises(UserError, match="config.task.stride: expected >= 1, found 0"):
    tasks.build({"name": "next_frame", "num_frames": 5, "stride": 0})
