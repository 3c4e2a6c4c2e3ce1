"""Plans and embeddings of the user's own, and the checks that every plan passes."""

import pathlib
import re

import numpy as np
import pytest

from vdm_jax import plans
from vdm_jax.errors import UserError

MINE = '''
"""Backwards, two frames at a time; and a plan that is written as a class."""

from vdm_jax.plans import Autoreg


def backwards(length, given, window, pair=2):
  exists = list(given)
  for last in range(length - 1, len(given) - 1, -pair):
    latent = list(range(max(last - pair + 1, len(given)), last + 1))
    yield exists[-(window - pair):], latent
    exists += latent


def sized(length, given, window, size):
  return backwards(length, given, window, size)


def narrow(length, given):
  yield [], [0]


def by_place(length, given, window, /):
  yield [], [0]


def pairs(length, given, window):
  return [([0], [1])]


class Short(Autoreg):
  name = "short"


def luminance(frames):
  return frames.mean(axis=-1).reshape(len(frames), -1)


def wrong(frames):
  return frames.mean()


nothing = None
'''


@pytest.fixture
def mine(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(MINE)
  return str(path)


def build(name, **options):
  arguments = {"length": 9, "given": (0, 1), "window": 6} | options
  return plans.build(name, **arguments)


def test_a_generator_function_in_a_file_is_a_plan(mine):
  stages = list(plans.stages(build(f"{mine}:backwards")))
  latent = [s.index[0][s.latent[0]].tolist() for s in stages]
  assert latent == [[7, 8], [5, 6], [3, 4], [2]]
  assert stages[1].index[0][stages[1].observed[0]].tolist() == [0, 1, 7, 8]
  (*_, last) = plans.stages(build(f"{mine}:backwards", pair=3))
  assert last.index[0][last.latent[0]].tolist() == [2]


def test_a_function_may_return_a_generator(mine):
  stages = list(plans.stages(build(f"{mine}:sized", size=3)))
  assert stages[0].index[0][stages[0].latent[0]].tolist() == [6, 7, 8]


def test_the_plan_of_the_documentation_works(tmp_path):
  docs = pathlib.Path(__file__).parents[2] / "docs" / "plans.md"
  (code,) = re.findall(r"```python\n(.*?)```", docs.read_text(), re.DOTALL)
  path = tmp_path / "mine.py"
  path.write_text(code)
  plan = plans.build(
    f"{path}:backwards", length=40, given=(0, 1, 2, 3), window=8, pair=3
  )
  assert plans.summary(plan).windows == {7: 1, 8: 11}


def test_a_class_in_a_module_is_a_plan(mine, monkeypatch):
  monkeypatch.syspath_prepend(str(mine).rsplit("/", 1)[0])
  plan = build("mine:Short", step_size=1)
  assert type(plan).__name__ == "Short" and len(list(plans.stages(plan))) == 7


def test_an_embedding_of_ones_own(mine):
  video = np.zeros((1, 9, 4, 4, 3), np.float32)
  plan = build("adaptive-autoreg", embedding=f"{mine}:luminance")
  frames, _ = plan.next(plan.start(), video)
  assert frames.index[0][frames.observed[0]].tolist() == [1, 0]
  plan = build("adaptive-autoreg", embedding=f"{mine}:wrong")
  with pytest.raises(UserError, match=r"expected \[2, D\]"):
    plan.next(plan.start(), video)


@pytest.mark.parametrize(
  "name, options, message",
  [
    ("autoregg", {}, "unknown plan 'autoregg'. Did you mean 'autoreg'.*hierarchy-5"),
    ("no/such.py:plan", {}, "cannot import 'no/such.py' .*no such file"),
    ("no_such_module:plan", {}, "cannot import 'no_such_module'"),
    ("MINE:backward", {}, "Did you mean 'backwards'"),
    ("MINE:backwards", {"par": 1}, "Did you mean 'pair'"),
    ("MINE:sized", {}, "^plan '.*mine.py:sized': option size: missing$"),
    ("MINE:narrow", {}, "expected a function of length, given, window .* no window$"),
    ("MINE:by_place", {}, "found one that takes no length$"),
    ("MINE:pairs", {}, "found a list without length, given, start, next$"),
    ("MINE:nothing", {}, "expected a function or class, found a NoneType$"),
    ("autoreg", {"length": 3, "given": (0, 1, 2, 3)}, "given frame 3: expected 0 to 2"),
    ("adaptive-autoreg", {"embedding": "pixel"}, "Did you mean 'pixels'"),
    ("adaptive-autoreg", {"embedding": "MINE:nothing"}, "expected a function"),
    ("autoreg", {"window": 6, "stepsize": 2}, "Did you mean 'step_size'"),
  ],
)
def test_mistakes_are_named(mine, name, options, message):
  options = {
    key: value.replace("MINE", mine) if isinstance(value, str) else value
    for key, value in options.items()
  }
  with pytest.raises(UserError, match=message):
    build(name.replace("MINE", mine), **options)


@pytest.mark.parametrize(
  "pairs, message",
  [
    ([([0, 0], [2])], "holds a frame twice"),
    ([([0], [])], "samples no frame"),
    ([([0, 1], [2, 3])], "a stage of 4 frames, max_frames is 3"),
    ([([0], [2]), ([4], [3])], r"observes frames \[4\] before they exist"),
  ],
)
def test_a_plan_that_is_not_sound_is_refused(pairs, message):
  plan = plans.Listed(5, (0, 1), tuple(pairs), max_frames=3)
  with pytest.raises(UserError, match=message):
    list(plans.stages(plan))


def test_videos_of_a_batch_must_sample_the_same_frames():
  frames = plans.stage([[0], [1]], [2])
  assert plans.check_stage(plans.Listed(3, (0, 1), ()), frames, {0, 1}) == {0, 1, 2}
  frames.index[1, 1] = 3
  with pytest.raises(UserError, match="other frames in some videos"):
    plans.check_stage(plans.Listed(4, (0, 1), ()), frames, {0, 1})


def test_pixels_are_means_over_areas():
  frames = np.random.default_rng(0).uniform(-1, 1, (2, 32, 48, 3)).astype(np.float32)
  found = plans.embedding.pixels(frames)
  means = frames.reshape(2, 16, 2, 16, 3, 3).mean((2, 4)).reshape(2, -1)
  np.testing.assert_allclose(found * np.sqrt(16 * 16 * 3), means, atol=1e-6)
  # Sizes that do not divide, and small ones, which stay as they are.
  assert plans.embedding.pixels(np.ones((1, 23, 17, 1))).shape == (1, 256)
  small = frames[:, :4, :5]
  distance = (
    plans.embedding.pixels(small[:1]) - plans.embedding.pixels(small[1:])
  ) ** 2
  assert distance.sum() == pytest.approx(((small[0] - small[1]) ** 2).mean(), rel=1e-5)
