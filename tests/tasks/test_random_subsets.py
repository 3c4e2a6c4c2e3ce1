"""FDM's task: the contents of windows; golden files check how often they occur."""

import numpy as np
import pytest

from vdm_jax import tasks
from vdm_jax.errors import UserError


def draw(count, lengths, seed=0, **fields):
  task = tasks.build({"name": "random_subsets", **fields})
  rng = np.random.default_rng(seed)
  return task, [task.sample(rng, lengths) for _ in range(count)]


def test_selected_frames_come_first_in_order_then_frames_of_the_second_video():
  task, draws = draw(500, [300, 30], max_frames=6)
  assert (task.num_frames, task.num_sources, task.min_length) == (6, 2, 7)
  paddings = []
  for selection in draws:
    real = selection.observed | selection.latent
    count = real.sum()
    assert selection.index.dtype == selection.group.dtype == np.int32
    assert not (selection.observed & selection.latent).any() and selection.latent.any()
    np.testing.assert_array_equal(real, np.arange(6) < count)
    np.testing.assert_array_equal(selection.source, ~real)
    assert (np.diff(selection.index[:count]) > 0).all()
    assert 0 <= selection.index.min() and selection.index[:count].max() < 300
    assert not selection.group.any() and not selection.flip
    paddings.extend(selection.index[count:])
  # Uniform over the second video, its last frame included.
  assert set(paddings) == set(range(30))


def test_a_clip_moves_within_its_video_and_padding_within_the_other():
  _, draws = draw(3000, [40, 25], max_frames=4, clip_length=10)
  spans, frames, paddings = set(), set(), set()
  for selection in draws:
    real = selection.index[selection.source == 0]
    spans.add(int(np.ptp(real)))
    frames.update(real.tolist())
    paddings.update(selection.index[selection.source == 1].tolist())
  assert max(spans) == 9
  assert frames == set(range(40)) and paddings == set(range(25))


def test_padding_with_the_first_frame_needs_no_second_video():
  task, draws = draw(300, [50], max_frames=5, clip_length=20, padding="first")
  assert task.num_sources == 1
  for selection in draws:
    padding = ~(selection.observed | selection.latent)
    assert not selection.source.any()
    if padding.any():
      start = selection.index[padding][0]
      assert (selection.index[padding] == start).all() and 0 <= start <= 30
      assert (selection.index[~padding] < start + 20).all()


def test_reference_padding_roles_are_those_of_the_first_videos_frames():
  plain = draw(400, [9, 9], max_frames=6)[1]
  wrong = draw(400, [9, 9], max_frames=6, reference_padding_roles=True)[1]
  relabelled = 0
  for ours, theirs in zip(plain, wrong, strict=True):
    np.testing.assert_array_equal(ours.index, theirs.index)
    own = ours.source == 0
    observed = set(ours.index[ours.observed].tolist())
    latent = set(ours.index[ours.latent].tolist())
    for field in ("observed", "latent"):
      frames = {"observed": observed, "latent": latent}[field]
      found = getattr(theirs, field)
      np.testing.assert_array_equal(found[own], getattr(ours, field)[own])
      assert found[~own].tolist() == [i in frames for i in ours.index[~own].tolist()]
      relabelled += found[~own].sum()
  assert relabelled > 100


@pytest.mark.parametrize(
  "length, max_frames, share", [(300, 20, 361 / 10516), (20, 8, 703 / 3032)]
)
def test_reference_padding_roles_are_as_frequent_as_the_authors(
  length, max_frames, share
):
  """Shares of mislabelled padding slots in 2000 windows of the authors' code."""
  draws = draw(
    4000, [length, length], max_frames=max_frames, reference_padding_roles=True
  )[1]
  padding = np.concatenate([d.source == 1 for d in draws])
  labelled = np.concatenate([d.observed | d.latent for d in draws])
  assert labelled[padding].mean() == pytest.approx(share, rel=0.2)


def test_only_one_frame_more_than_the_window_still_ends():
  _, draws = draw(200, [5, 5], max_frames=4)
  assert {int((d.observed | d.latent).sum()) for d in draws} == {1, 2, 3, 4}


@pytest.mark.parametrize(
  "fields, lengths, message",
  [
    (dict(max_frames=0), [9, 9], "max_frames: expected >= 1"),
    (dict(max_frames=8, clip_length=8), [9, 9], "more than max_frames=8, found 8"),
    (dict(max_frames=8), [8, 20], "expected videos of 9 frames or more, found 8"),
    (dict(max_frames=8), [20, 8], "expected videos of 9 frames or more, found 8"),
    (dict(max_frames=8, padding="radom"), [9, 9], "Did you mean 'random'"),
  ],
)
def test_mistakes_are_named(fields, lengths, message):
  with pytest.raises(UserError, match=message):
    draw(1, lengths, **fields)
