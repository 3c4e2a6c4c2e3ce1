"""The demo of long videos: its judge on real digits and on broken ones."""

import json

import numpy as np
import PIL.Image
import pytest

from tests import helpers
from vdm_jax.data.builders import moving_digits
from vdm_jax.demo import long
from vdm_jax.errors import UserError

NAME = "moving_digits/16px_1digit_40frames_1minspeed"
OBSERVED = 8


def videos(first, count=6):
  config = moving_digits.MovingDigits.parse(NAME.partition("/")[2])
  clips = [moving_digits.generate(config, "test", first + i) for i in range(count)]
  return np.stack([c.frames for c in clips]), np.array([c.labels[0] for c in clips])


def reader(frames):
  """Tells digits by their light: a stand-in that is exact for one clip's digit."""
  light = frames.reshape(*frames.shape[:-3], -1).astype(np.float64).sum(-1)
  known = [int(clip[0].astype(np.int64).sum()) for clip in videos(0)[0]]
  return -np.abs(light[..., None] - np.array(known)) / 100, None


@pytest.fixture(scope="module")
def judge():
  return long.Judge(reader, videos(100, 20)[0], OBSERVED)


def values(judge, clips):
  found = judge(clips, np.arange(len(clips)))
  assert set(found) == set(long.ROWS)
  return {key: of["value"] for key, of in found.items()}


def test_real_videos_are_perfect(judge):
  found = values(judge, videos(0)[0])
  assert (found["kept"], found["same"]) == (1, 1)
  assert (found["outliers"], found["dissolved"]) == (0, 0)
  assert found["speed_distance"] < 0.1
  assert judge.fastest == pytest.approx(2**0.5, abs=0.1)


def test_another_digit_at_the_end_is_seen(judge):
  clips = videos(0)[0]
  clips[:3, -long.LAST :] = np.roll(clips, 1, axis=0)[:3, -long.LAST :]
  assert values(judge, clips)["kept"] == 0.5


def test_jumps_and_frames_without_a_digit_are_outliers(judge):
  clips = videos(0)[0]
  clips[:, 20] = 0
  found = values(judge, clips)
  # A frame in 32, and the steps to it and from it.
  assert found["dissolved"] == pytest.approx(1 / 32)
  assert found["outliers"] == pytest.approx(2 / 32)
  clips = videos(0)[0]
  clips[:, 20] = clips[:, 20, ::-1, ::-1]
  assert 0 < values(judge, clips)["outliers"] <= 2 / 32


def test_copies_stand_still(judge):
  clips = videos(0)[0]
  clips[:, OBSERVED:] = clips[:, OBSERVED - 1 : OBSERVED]
  found = values(judge, clips)
  assert found["kept"] == 1 and found["outliers"] == 0
  assert found["speed_distance"] > 1


def test_too_bright_is_dissolved_too(judge):
  clips = videos(0)[0]
  clips[:, OBSERVED:] = 255
  assert values(judge, clips)["dissolved"] == 1


def test_goals_and_the_best_plan():
  def of(kept, outliers, dissolved=0.0, distance=0.3):
    found = {
      "kept": kept,
      "outliers": outliers,
      "dissolved": dissolved,
      "speed_distance": distance,
    }
    return {key: {"value": value} for key, value in found.items()}

  assert long._rank(of(0.8, 0.2)) > long._rank(of(0.7, 0.0))
  assert long._rank(of(0.8, 0.1)) > long._rank(of(0.8, 0.2))
  copied = of(1.0, 0.0, distance=1.3)
  goals = long.promised(of(0.75, 0.05), copied, "autoreg")
  assert all(goal.met for goal in goals)
  assert "autoreg" in goals[0].name
  worse = long.promised(of(0.7, 0.06, 0.01, 1.0), copied, "autoreg")
  assert not any(goal.met for goal in worse)
  # A copy meets all but the one on motion.
  met = [goal.met for goal in long.promised(copied, copied, "autoreg")]
  assert met == [True, True, True, False]


def test_pictures(tmp_path):
  from etils import epath

  clips = videos(0, 8)[0]
  sets = {"truth": clips, "autoreg": clips[::-1]}
  long.draw(epath.Path(tmp_path), sets, OBSERVED, NAME)
  for name in ("long.png", "paths.png"):
    with PIL.Image.open(tmp_path / name) as picture:
      assert picture.width > 300
  with PIL.Image.open(tmp_path / "long.gif") as film:
    assert film.n_frames > 20


def test_refusals(tmp_path):
  config = helpers.load_config("fdm_digits")
  with pytest.raises(UserError, match="`length=20`: expected 28 or more"):
    long.run(config, tmp_path, seconds=20, length=20)
  with pytest.raises(UserError, match="1digit"):
    long.run(helpers.load_config("fdm_carla"), tmp_path, seconds=20)


def test_table_has_a_column_a_plan():
  of = {key: {"value": 0.5, "error": 0.1} for key in long.ROWS}
  results = {
    "videos": 4, "length": 100, "given_frames": 8, "data": NAME, "steps": 10,
    "model": {"autoreg": {**of, "seconds": 12.3}}, "baselines": {long.REAL: of},
  }  # fmt: skip
  text = long.table(json.loads(json.dumps(results)))
  head = next(line for line in text.splitlines() if "autoreg" in line)
  assert long.REAL in head and "10 steps" in text and " 12 " in text
