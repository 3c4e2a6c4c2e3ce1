"""The classifier and the protocol on real clips and on broken ones."""

import json

import numpy as np
import pytest

from vdm_jax import sharding
from vdm_jax.data import source as sources
from vdm_jax.demo import digit_clips, digits
from vdm_jax.errors import UserError

# As small as a digit allows; enough clips that each split has all digits.
DATASET = "moving_digits/12px_1digit_4frames_8digitpx_1000videos"


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
  reader, _ = digits.train(
    DATASET, tmp_path_factory.mktemp("classifier"), num_steps=150
  )
  return reader


@pytest.fixture(scope="module")
def real(tmp_path_factory):
  """split -> real clips."""
  root = tmp_path_factory.mktemp("data")
  sources.ensure_built(DATASET, root)

  def clips(split, per_class=0):
    return digit_clips.real_clips(sources.load(DATASET, root, split), 4, 1, per_class)

  return clips


def test_reads_unseen_digits(reader):
  assert reader.accuracy(digits.Rendering(DATASET, "test")) > 0.93


def test_reader_keeps_leading_axes_and_order(reader, real):
  clips = real("test")
  logits, features = reader(clips.videos)
  n, t = clips.videos.shape[:2]
  assert logits.shape == (n, t, 10) and features.shape == (n, t, digits.FEATURES)
  alone, _ = reader(clips.videos[-1, -1])
  np.testing.assert_allclose(alone, logits[-1, -1], rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="uint8"):
    reader(clips.videos.astype(np.float32))


def test_finished_training_is_read_back(tmp_path):
  first, _ = digits.train(DATASET, tmp_path, num_steps=2)
  again, result = digits.train(DATASET, tmp_path, num_steps=2)
  assert int(result.state.step) == 2
  frame = np.full((12, 12, 1), 90, np.uint8)
  np.testing.assert_array_equal(first(frame)[0], again(frame)[0])


def test_batches_go_on_where_they_were():
  mesh = sharding.make_mesh()
  rendering = digits.Rendering(DATASET, "train")
  batches = digits.Batches(rendering, 16, 0, mesh)
  next(batches)
  state = json.loads(json.dumps(batches.get_state()))
  expected = next(batches)
  resumed = digits.Batches(rendering, 16, 0, mesh)
  resumed.set_state(state)
  found = next(resumed)
  np.testing.assert_array_equal(found["image"], expected["image"])
  np.testing.assert_array_equal(found["label"], expected["label"])


def test_rendering_is_the_data_sets(real):
  # The same mass as clips of the data set: nothing is cut off or scaled.
  rendering = digits.Rendering(DATASET, "test")
  batch = rendering.render(np.arange(len(rendering)), np.random.default_rng(0))
  assert batch["image"].shape == (len(rendering), *real("test").videos.shape[2:])
  known = {int(image.sum()) for image in batch["image"]}
  assert {int(clip[0].sum()) for clip in real("test").videos} <= known


@pytest.mark.parametrize(
  "name", ["moving_digits/32px_2digits_20frames", "video_folder/ucf101"]
)
def test_needs_one_digit(name):
  with pytest.raises(UserError, match="1digit"):
    digits.Rendering(name, "test")


def test_real_clips_are_balanced(real):
  clips = real("validation", per_class=2)
  assert clips.videos.shape == (20, 4, 12, 12, 1)
  np.testing.assert_array_equal(clips.labels, np.tile(np.arange(10), 2))


def test_too_few_clips_are_refused(tmp_path):
  name = "moving_digits/12px_1digit_4frames_8digitpx_20videos"
  sources.ensure_built(name, tmp_path)
  with pytest.raises(UserError, match="every digit"):
    digit_clips.real_clips(sources.load(name, tmp_path, "test"), 4)


@pytest.fixture(scope="module")
def results(reader, real):
  held_out = real("validation")
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, held_out.videos.shape).astype(np.uint8)
  order = np.argsort(rng.random(held_out.videos.shape[:2]), axis=1)
  shuffled = np.take_along_axis(held_out.videos, order[..., None, None, None], 1)
  sets = {
    "real": held_out,
    "noise": digit_clips.Clips(noise, held_out.labels),
    "black": digit_clips.Clips(np.zeros_like(noise), held_out.labels),
    "wrong": digit_clips.Clips(held_out.videos, (held_out.labels + 1) % 10),
    "shuffled": digit_clips.Clips(shuffled, held_out.labels),
  }
  return digit_clips.evaluate(sets, real("test"), reader)


def value(results, name, key):
  return results["sets"][name][key]["value"]


def test_real_is_nearer_than_noise(results):
  assert value(results, "real", "frechet") < 0.3 * value(results, "noise", "frechet")
  assert value(results, "real", "asked_frames") > 0.8
  assert value(results, "real", "change") < 1e-9
  assert value(results, "real", "jumps") == 0
  assert value(results, "real", "empty") == 0
  assert value(results, "noise", "asked_frames") < 0.5
  assert value(results, "noise", "change") > 0.2


def test_each_number_sees_its_own_fault(results):
  assert value(results, "wrong", "asked_clips") < 0.1
  assert value(results, "wrong", "frechet") == value(results, "real", "frechet")
  assert value(results, "black", "empty") == 1
  assert value(results, "black", "speed") is None
  assert value(results, "shuffled", "turn") > 1.3 * value(results, "real", "turn")
  same = [value(results, name, "frechet") for name in ("real", "shuffled")]
  assert same[0] == pytest.approx(same[1])


def test_table_holds_all_numbers(results):
  json.dumps(results)
  lines = digit_clips.table(results).splitlines()
  assert len(lines) == 3 + len(digit_clips.ROWS)
  for row in digit_clips.ROWS:
    assert sum(line.startswith(row.title) for line in lines) == 1
  assert all(len(line) <= len(lines[1]) for line in lines)
