"""RaMViD's plans: neighbouring frames in order, every given frame at its place."""

import json

import numpy as np
import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError


def windows(name, length, given=(), **options):
  """The stages as 'O' and 'L' at their place in the video."""
  plan = plans.build(name, length=length, given=given, window=6, **options)
  result = []
  for frames in plans.stages(plan):
    row = ["."] * length
    slots = list(zip(frames.index[0], frames.observed[0], strict=True))
    assert [i for i, _ in slots] == list(range(slots[0][0], slots[-1][0] + 1))
    for index, observed in slots:
      row[index] = "O" if observed else "L"
    result.append("".join(row))
  return result


@pytest.mark.parametrize(
  "given, window",
  [
    ((), "LLLLLL"),
    ((0, 1), "OOLLLL"),  # Prediction.
    ((5, 0), "OLLLLO"),  # Infilling.
    ((0, 2, 4), "OLOLOL"),  # Up-sampling in time.
  ],
)
def test_fill_is_one_window(given, window):
  assert windows("fill", 6, given) == [window]


def test_fill_takes_any_length_and_samples_nothing_that_is_given():
  assert windows("fill", 9, (0,)) == ["OLLLLLLLL"]
  assert windows("fill", 3, (0, 1, 2)) == []


@pytest.mark.parametrize(
  "given, expected",
  [
    # The first window sees all that is given at the start, the last is cut.
    ((0, 1, 2), ["OOOLL...", "...OOLL.", ".....OOL"]),
    # Frames given further on are seen where they are, and never sampled.
    ((0, 4, 7), ["OLL.....", ".OOLOL..", "....OOLO"]),
    # So are those that follow a window, up to max_cond.
    ((0, 3, 4, 5), ["OLLOO...", "....OOLL"]),
    # Nothing at the start.
    ((3,), ["LL......", "OOLOL...", "...OOLL.", ".....OOL"]),
  ],
)
def test_extension_window_by_window(given, expected):
  assert windows("extension", 8, given, prediction_step=2, max_cond=2) == expected


def test_extension_has_the_lengths_of_the_authors_windows_but_for_the_last():
  found = windows("extension", 26, (0,), prediction_step=10, max_cond=5)
  assert [len(row.strip(".")) for row in found] == [11, 15, 10]


@pytest.mark.parametrize("seed", range(4))
def test_extension_samples_each_missing_frame_once_whatever_is_given(seed):
  rng = np.random.default_rng(seed)
  length = int(rng.integers(5, 60))
  given = rng.choice(length, rng.integers(0, length), replace=False).tolist()
  step, cond = rng.integers(1, 9, 2).tolist()
  found = windows("extension", length, given, prediction_step=step, max_cond=cond)
  missing = [i for row in found for i, slot in enumerate(row) if slot == "L"]
  assert missing == sorted(set(range(length)) - set(given))
  assert all(row.count("L") == step for row in found[:-1])
  for row in found[1:]:
    assert row[: row.index("L")].count("O") == min(cond, row.index("L"))


def test_extension_goes_on_from_a_state_that_went_through_json():
  plan = plans.build("extension", length=30, given=(0, 9), window=6, max_cond=3)
  state, rest = plan.start(), list(plans.stages(plan))
  for expected in rest:
    frames, state = plan.next(json.loads(json.dumps(state)), None)
    assert frames.index.tolist() == expected.index.tolist()
    assert frames.observed.tolist() == expected.observed.tolist()
  assert plan.next(state, None) is None


def test_a_plan_serves_one_batch_after_another():
  plan = plans.build("extension", length=30, given=(), window=6)
  first, second = ([f.index.tolist() for f in plans.stages(plan)] for _ in range(2))
  assert first == second and first[0][0][0] == 0


@pytest.mark.parametrize("option", ["prediction_step", "max_cond"])
def test_impossible_options_are_named(option):
  with pytest.raises(UserError, match=f"`{option}=0`: expected at least 1"):
    plans.build("extension", length=8, given=(), window=6, **{option: 0})
