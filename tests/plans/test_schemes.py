"""FDM's schemes: invariants over many settings. Which frames exactly: golden files."""

import itertools
import json
import re

import numpy as np
import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError
from vdm_jax.frames import Frames

SEQUENTIAL = ("autoreg", "long-range", "adaptive-autoreg")
LEVELLED = ("hierarchy-2", "hierarchy-3", "hierarchy-4", "hierarchy-5",
            "adaptive-hierarchy-2", "adaptive-hierarchy-3")  # fmt: skip
LENGTHS, NUM_OBS = (1, 2, 7, 9, 20, 33, 100), (0, 1, 2, 5, 9, 20)
WINDOWS = ((4, 2), (5, 3), (8, 4), (8, 8), (9, 6), (20, 10), (20, 19), (20, 2))


def build(name, length, num_obs=0, max_frames=8, step_size=None, **options):
  return plans.build(
    name, length=length, given=tuple(range(num_obs)), window=max_frames,
    step_size=step_size, **options,
  )  # fmt: skip


def video_of(length, batch=2, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (batch, length, 4, 4, 3)).astype(np.float32)


def run(plan, video=None, state=None):
  """Stages as lists, and the state in front of each, as JSON gives it back."""
  found, state = [], plan.start() if state is None else state
  while True:
    state = json.loads(json.dumps(state))
    if (following := plan.next(state, video)) is None:
      return found
    frames, after = following
    found.append(
      (state, frames.index.tolist(), frames.observed.tolist(), frames.latent.tolist())
    )
    state = after


@pytest.mark.parametrize("name", SEQUENTIAL + LEVELLED)
def test_each_missing_frame_is_sampled_once_whatever_the_setting(name):
  """Or the error names the smallest window that works; `stages` checks the rest."""
  for length, num_obs, (window, step) in itertools.product(LENGTHS, NUM_OBS, WINDOWS):
    if num_obs >= length:
      continue
    try:
      stages = list(plans.stages(build(name, length, num_obs, window, step)))
    except UserError as error:
      needed = int(re.search(r"(?:works is|needs) (\d+)", str(error))[1])
      assert needed > window
      assert list(plans.stages(build(name, length, num_obs, needed, step)))
      with pytest.raises(UserError):
        list(plans.stages(build(name, length, num_obs, needed - 1, step)))
      continue
    sampled = [i for s in stages for i in s.index[0][s.latent[0]].tolist()]
    assert sorted(sampled) == list(range(num_obs, length))
    assert max((s.index.shape[1] for s in stages), default=0) <= window


@pytest.mark.parametrize("name", SEQUENTIAL + LEVELLED)
@pytest.mark.parametrize("num_obs", [0, 3])
def test_a_plan_goes_on_from_the_state_of_any_stage(name, num_obs):
  video = video_of(30)
  whole = run(build(name, 30, num_obs, 9, 3), video)
  assert len(whole) > 4
  for done, (state, *_) in enumerate(whole):
    # A new plan, as in a new process: nothing but the state and the video is kept.
    assert run(build(name, 30, num_obs, 9, 3), video, state) == whole[done:]


@pytest.mark.parametrize("name", [n for n in SEQUENTIAL + LEVELLED if "adap" in n])
def test_adaptive_plans_choose_for_every_video_and_fill_the_window(name):
  video = video_of(40, batch=3)
  whole = run(build(name, 40, 12, 8, 4), video)
  dry = run(build(name, 40, 12, 8, 4))
  differ = 0
  exists = set(range(12))
  plan = build(name, 40, 12, 8, 4)
  for (_, index, observed, latent), (_, dry_index, _, dry_latent) in zip(
    whole, dry, strict=True
  ):
    index, observed, latent = map(np.array, (index, observed, latent))
    assert index.shape == (3, np.shape(dry_index)[1])
    assert (index[:1][latent[:1]] == np.array(dry_index)[np.array(dry_latent)]).all()
    frames = Frames(index=index, observed=observed, latent=latent, group=index * 0)
    exists = plans.check_stage(plan, frames, exists)
    chosen = [
      tuple(sorted(row[mask])) for row, mask in zip(index, observed, strict=True)
    ]
    differ += len(set(chosen)) > 1
  assert differ > 2 and len(exists) == 40


def test_adaptive_plans_prefer_frames_that_differ():
  """Of two scenes of equal frames, one of each is enough to fill two places."""
  video = np.zeros((1, 14, 4, 4, 3), np.float32)
  video[:, :5] = 1.0
  plan = build("adaptive-autoreg", 14, 10, 4, 2)
  frames, _ = plan.next(plan.start(), video)
  newest, other = frames.index[0][frames.observed[0]]
  assert newest == 9 and other < 5


def test_a_frame_is_embedded_once():
  seen = []

  def embed(frames):
    seen.extend(frames[:, 0, 0, 0].tolist())
    return frames.reshape(len(frames), -1)

  video = video_of(30, batch=2)
  run(build("adaptive-hierarchy-2", 30, 6, 8, 4, embedding=embed), video)
  assert len(seen) == len(set(seen)) > 40


def test_few_given_frames_are_observed_once_each():
  first = next(plans.stages(build("hierarchy-2", 30, 3, 12, 4)))
  assert first.index[0][first.observed[0]].tolist() == [0, 1, 2]


def test_a_video_shorter_than_the_first_window_is_one_window():
  for name in ("autoreg", "long-range", "hierarchy-2", "adaptive-autoreg"):
    (only,) = plans.stages(build(name, 5, 0, 8))
    assert only.index.tolist() == [[0, 1, 2, 3, 4]] and only.latent.all()


@pytest.mark.parametrize(
  "name, arguments, message",
  [
    ("autoreg", (20, 4, 8, 8), "`step_size=8`: expected 1 to 7 with `max_frames=8`; "
                               "`step_size=8` needs 9"),
    ("long-range", (20, 4, 8, 7), "`step_size=7`: expected 1 to 6"),
    ("adaptive-autoreg", (20, 4, 1), "`max_frames=1`: expected 2 or more"),
    ("hierarchy-2", (20, 4, 8, 1), "`step_size=1`: expected 2 to 8 with "
                                    "`max_frames=8`$"),
    ("hierarchy-2", (20, 4, 3), "`max_frames=3`: expected 4 or more"),
    ("hierarchy-5", (100, 5, 7, 6), "`max_frames=7` is too small for a video of 100 "
                                    "frames with `step_size=6`; .* works is 8"),
  ],
)  # fmt: skip
def test_impossible_settings_name_what_works(name, arguments, message):
  with pytest.raises(UserError, match=message):
    list(plans.stages(build(name, *arguments)))


def test_the_setting_that_an_error_names_works():
  assert list(plans.stages(build("hierarchy-5", 100, 5, 8, 6)))
  assert list(plans.stages(build("autoreg", 20, 4, 9, 8)))


def test_given_frames_must_be_the_first_ones():
  with pytest.raises(UserError, match="the first frames of the video"):
    plans.build("autoreg", length=20, given=(0, 2), window=8)
  # In any order.
  plans.build("autoreg", length=20, given=(1, 0), window=8)


def test_the_smallest_window_that_fills_a_gap():
  for length, num_obs, window in itertools.product(LENGTHS, NUM_OBS, (6, 7, 9, 12)):
    if num_obs < length:
      for step in range(1, window):
        list(plans.stages(build("like-google", length, num_obs, window, step)))
  for window in (2, 5):
    message = f"plan like-google: `max_frames={window}`: expected 6 or more"
    with pytest.raises(UserError, match=message):
      build("like-google", 20, 2, window)
  # It has windows of its own, whatever is asked for.
  assert list(plans.stages(build("google", 20, 2, 4)))
