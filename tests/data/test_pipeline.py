"""The pipeline: what batches hold, exact resume, any number of processes."""

import json

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging

from tests.data import helpers
from vdm_jax import frames as frames_lib
from vdm_jax import tasks
from vdm_jax.data import captions, device, pipeline, text
from vdm_jax.errors import UserError

CLIP = tasks.Unconditional(4)
JOINT = tasks.JointImages(tasks.Unconditional(3, stride=2, flip=True), 2)


def training(source, task=JOINT, **options):
  options = {"batch_size": 8, "seed": 5, "num_threads": 0} | options
  return pipeline.make_pipeline(source, task, **options)


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


class Fixed:
  """A task that always selects the same."""

  num_frames, num_sources, min_length = 4, 2, 5

  def __init__(self, flip=False):
    self.flip = flip

  def sample(self, rng, lengths):
    del rng
    return tasks.Selection(
      index=np.array([4, lengths[1] - 1, 0, 4]),
      observed=np.array([1, 0, 0, 0], bool),
      latent=np.array([1, 1, 1, 0], bool),
      group=np.array([0, 1, 0, 2]),
      source=np.array([0, 1, 0, 0]),
      flip=self.flip,
    )


class TestBatch:
  def test_form(self, digits):
    encoder = text.make_encoder("bytes:6", 40)
    stored = captions.ensure(digits, "bytes:6", 40)
    cond = ("label", "tokens", "video")
    batch = next(
      training(digits, cond=cond, captions=stored, extras=("position",), batch_size=6)
    )
    assert set(batch) == {"video", "frames", "cond", "extras"}
    assert (
      batch["video"].shape == (6, 5, 16, 16, 1) and batch["video"].dtype == np.uint8
    )
    assert isinstance(batch["frames"], frames_lib.Frames)
    assert batch["frames"].index.dtype == batch["frames"].group.dtype == np.int32
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), batch["cond"])
    assert shapes == {
      "label": ((6, 3), "int32"),
      "video": ((6, 3), "int32"),
      "tokens": ((6, 3, 40, 6), "bfloat16"),
      "token_mask": ((6, 3, 40), "bool"),
    }
    assert batch["extras"]["position"].shape == (6, 5, 1, 2)
    for row, numbers in enumerate(batch["cond"]["video"]):
      for group, number in enumerate(numbers):
        assert batch["cond"]["label"][row, group] == digits.label(number)
        tokens, mask = encoder(digits.caption(number))
        found = batch["cond"]["tokens"][row, group]
        np.testing.assert_array_equal(found, tokens.astype(found.dtype))
        np.testing.assert_array_equal(batch["cond"]["token_mask"][row, group], mask)

  def test_holds_the_selected_frames(self, coded):
    batch = next(training(coded, Fixed(), cond=("video",), extras=("depth",)))
    assert (batch["frames"].index[:, [0, 2, 3]] == [4, 0, 4]).all()
    for row, (own, other) in enumerate(batch["cond"]["video"]):
      last = helpers.LENGTHS[other] - 1
      expected = [(own, 4), (other, last), (own, 0), (own, 4)]
      for slot, (video, frame) in enumerate(expected):
        np.testing.assert_array_equal(
          batch["video"][row, slot], helpers.coded_frames(video, [frame])[0]
        )
        assert batch["extras"]["depth"][row, slot] == frame * 0.5
      assert batch["frames"].observed[row].tolist() == [True, False, False, False]
      assert batch["frames"].latent[row].tolist() == [True, True, True, False]

  def test_flip_mirrors_frames_and_extras(self, coded):
    straight = next(training(coded, Fixed(), extras=("pose",)))
    mirrored = next(training(coded, Fixed(flip=True), extras=("pose",)))
    np.testing.assert_array_equal(mirrored["video"], straight["video"][:, :, :, ::-1])
    pose = straight["extras"]["pose"]
    np.testing.assert_array_equal(mirrored["extras"]["pose"][..., 0], 10 - pose[..., 0])
    np.testing.assert_array_equal(mirrored["extras"]["pose"][..., 1], pose[..., 1])
    with pytest.raises(UserError, match=r"'depth'.*switch the task's flip off"):
      next(training(coded, Fixed(flip=True), extras=("depth",)))

  def test_mirrored_position_is_where_the_digit_is(self, digits):
    flips = tasks.Unconditional(2, flip=True)
    batch = next(training(digits, flips, batch_size=60, extras=("position",)))
    for clip, positions in zip(
      batch["video"], batch["extras"]["position"], strict=True
    ):
      for frame, ((x, y),) in zip(clip, positions.astype(int), strict=True):
        inside = frame[y : y + 8, x : x + 8]
        assert inside.sum() == frame.sum()

  def test_others_are_uniform_distinct_and_not_ones_own(self, digits):
    task = tasks.JointImages(tasks.Unconditional(2), 3)
    batches = take(training(digits, task, batch_size=60, cond=("video",)), 20)
    numbers = np.concatenate([batch["cond"]["video"] for batch in batches])
    assert all(len(set(row)) == 4 for row in numbers.tolist())
    counts = np.bincount(numbers[:, 1:].ravel(), minlength=120)
    assert counts.min() > 10 and counts.max() < 60  # 30 expected.

  def test_every_epoch_shows_every_video_once_in_a_new_order(self, digits):
    batches = take(training(digits, CLIP, batch_size=40, cond=("video",)), 6)
    numbers = np.concatenate([batch["cond"]["video"][:, 0] for batch in batches])
    first, second = numbers[:120].tolist(), numbers[120:].tolist()
    assert sorted(first) == sorted(second) == list(range(120))
    assert first != second

  def test_one_epoch_in_order(self, digits):
    batches = list(
      training(
        digits, CLIP, batch_size=50, shuffle=False, repeat=False, cond=("video",)
      )
    )
    numbers = np.concatenate([batch["cond"]["video"][:, 0] for batch in batches])
    assert numbers.tolist() == list(range(100))  # 20 are no full batch.

  def test_short_videos_are_left_out_once(self, coded, caplog):
    logging.use_absl_handler()
    with caplog.at_level("WARNING", logger="absl"):
      iterator = training(coded, tasks.Unconditional(9), cond=("video",))
      numbers = [batch["cond"]["video"].ravel() for batch in take(iterator, 10)]
    assert set(np.concatenate(numbers)) == {2, 3, 4}
    reports = [text for text in caplog.messages if "left out" in text]
    assert len(reports) == 1 and "2 of 5 videos are shorter than the 9" in reports[0]


class TestResume:
  @pytest.mark.parametrize("threads", [0, 3])
  def test_state_continues_exactly(self, digits, threads):
    iterator = training(digits, num_threads=threads)
    take(iterator, 5)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 20)
    fresh = training(digits, num_threads=3 - threads)
    fresh.set_state(state)
    assert_same(take(fresh, 20), expected)

  def test_orbax(self, digits, tmp_path):
    iterator = training(digits, num_threads=2)
    take(iterator, 3)
    with ocp.CheckpointManager(tmp_path) as manager:
      save = grain.checkpoint.CheckpointSave(iterator)
      manager.save(7, args=ocp.args.Composite(data=save))
      expected = next(iterator)
      manager.wait_until_finished()
      fresh = training(digits)
      restore = grain.checkpoint.CheckpointRestore(fresh)
      manager.restore(7, args=ocp.args.Composite(data=restore))
    assert_same(next(fresh), expected)

  def test_seed(self, digits):
    one, same, other = (next(training(digits, seed=seed)) for seed in (1, 1, 2))
    assert_same(one, same)
    assert not np.array_equal(one["video"], other["video"])


class TestProcesses:
  @pytest.mark.parametrize("count", [2, 4])
  def test_blocks_make_the_global_batch(self, digits, count):
    whole = training(digits, cond=("label",))
    parts = [
      training(digits, cond=("label",), rows=rows)
      for rows in np.split(np.arange(8), count)
    ]
    for _ in range(3):
      blocks = [next(part) for part in parts]
      joined = jax.tree.map(lambda *x: np.concatenate(x), *blocks)
      assert_same(joined, next(whole))
    assert {json.dumps(part.get_state()) for part in parts} == {
      json.dumps(whole.get_state())
    }

  def test_any_rows(self, digits):
    whole, some = next(training(digits)), next(training(digits, rows=[6, 1]))
    assert_same(some, jax.tree.map(lambda x: x[[6, 1]], whole))

  def test_reads_only_its_own_rows(self, digits):
    digits.read(0, np.array([0]))
    opened, touched = digits._records, []

    class Spy:
      def __getitems__(self, keys):
        touched.extend(keys)
        return opened.__getitems__(keys)

    digits.__dict__["_records"] = Spy()
    next(training(digits, CLIP, rows=[2, 3]))
    assert len(touched) == 2

  def test_rows_of_a_sharding(self):
    devices = np.array(jax.devices()[:8])
    spec = jax.sharding.PartitionSpec("data")
    mesh = jax.sharding.Mesh(devices.reshape(4, 2), ("data", "fsdp"))
    sharding = jax.sharding.NamedSharding(mesh, spec)
    np.testing.assert_array_equal(pipeline.local_rows(sharding, 8), np.arange(8))

    class Half:
      """What process 1 of 2 sees whose devices come in an odd order."""

      def addressable_devices_indices_map(self, shape):
        del shape
        return {0: (slice(6, 8),), 1: (slice(2, 4),), 2: (slice(6, 8),)}

    assert pipeline.local_rows(Half(), 8).tolist() == [2, 3, 6, 7]


class TestEvaluation:
  def evaluation(self, source, **options):
    options = {"batch_size": 8, "num_examples": 20, "cond": ("video",)} | options
    return list(pipeline.make_evaluation(source, CLIP, **options))

  def test_is_finite_padded_and_always_the_same(self, digits):
    batches = self.evaluation(digits)
    assert [batch["valid"].sum() for batch in batches] == [8, 8, 4]
    assert all(batch["video"].shape == (8, 4, 16, 16, 1) for batch in batches)
    last = batches[-1]["video"]
    assert all(np.array_equal(filler, last[3]) for filler in last[4:])
    assert_same(self.evaluation(digits, num_threads=0), batches)
    numbers = np.concatenate([b["cond"]["video"][b["valid"], 0] for b in batches])
    assert numbers.tolist() == list(range(0, 120, 6))  # Spread over the videos.

  def test_examples_do_not_depend_on_the_batch_size(self, digits):
    def examples(**options):
      batches = self.evaluation(digits, **options)
      return np.concatenate([b["video"][b["valid"]] for b in batches])

    expected = examples()
    np.testing.assert_array_equal(examples(batch_size=7), expected)
    halves = [self.evaluation(digits, rows=rows) for rows in (range(4), range(4, 8))]
    joined = [
      np.concatenate([a["video"], b["video"]]) for a, b in zip(*halves, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(joined)[:20], expected)
    assert not np.array_equal(examples(seed=1), expected)

  def test_more_examples_than_videos(self, coded):
    (batch,) = self.evaluation(coded, num_examples=10, batch_size=10)
    # All of the four that are long enough, in turn.
    numbers = batch["cond"]["video"].ravel().tolist()
    assert numbers == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


class TestMistakes:
  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"batch_size": 0}, "`batch_size=0`: expected >= 1"),
      ({"cond": ("labels",)}, "cond: expected some of label, tokens, video"),
      ({"cond": ("tokens",)}, "expected embedded captions, found none"),
      ({"extras": ("pose",)}, "unknown extra"),
      ({"task": tasks.Unconditional(9)}, "needs videos of 9 frames.*longest has 8"),
      ({"task": tasks.JointImages(CLIP, 120)}, "121 different videos, only 120"),
      ({"repeat": False, "batch_size": 200}, "120 videos has no full batch of 200"),
    ],
  )
  def test_told_before_the_first_batch(self, digits, options, message):
    with pytest.raises(UserError, match=message):
      training(digits, **options)


class TestDevice:
  @pytest.fixture
  def sharding(self):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))

  def test_same_batches_on_device(self, digits, sharding):
    iterator = device.device_iterator(training(digits), sharding)
    for expected in take(training(digits), 4):
      batch = next(iterator)
      assert batch["video"].sharding == sharding
      assert_same(batch, expected)
    iterator.close()

  def test_state_is_that_of_batches_handed_out(self, digits, sharding):
    host = training(digits, num_threads=2)
    iterator = device.device_iterator(host, sharding, depth=3)
    take(iterator, 4)
    state = json.loads(json.dumps(iterator.state()))
    assert state == {"next_index": 4}
    expected = take(iterator, 6)
    fresh = device.device_iterator(training(digits), sharding)
    next(fresh)
    fresh.set_state(state)
    assert_same(take(fresh, 6), expected)
    iterator.set_state(state)  # Back in place, with batches under way.
    assert_same(take(iterator, 6), expected)
    fresh.close()
    iterator.close()

  def test_orbax(self, digits, sharding, tmp_path):
    iterator = device.device_iterator(training(digits), sharding)
    take(iterator, 2)
    with ocp.CheckpointManager(tmp_path) as manager:
      save = grain.checkpoint.CheckpointSave(iterator)
      manager.save(1, args=ocp.args.Composite(data=save))
      expected = next(iterator)
      manager.wait_until_finished()
      fresh = device.device_iterator(training(digits), sharding)
      restore = grain.checkpoint.CheckpointRestore(fresh)
      manager.restore(1, args=ocp.args.Composite(data=restore))
    assert_same(next(fresh), expected)
    fresh.close()
    iterator.close()

  def test_finite_and_failing(self, digits, coded, sharding):
    finite = pipeline.make_evaluation(digits, CLIP, batch_size=8, num_examples=20)
    iterator = device.device_iterator(finite, sharding)
    assert len(list(iterator)) == 3
    with pytest.raises(StopIteration):
      next(iterator)
    iterator.close()
    failing = training(coded, Fixed(flip=True), extras=("depth",))
    iterator = device.device_iterator(failing, sharding)
    with pytest.raises(UserError, match="flip off"):
      next(iterator)
    iterator.close()
