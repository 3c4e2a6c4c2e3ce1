"""Records and the reader: layout, access, identity, half-built data sets."""

import json
import pathlib
import pickle
import subprocess
import sys
import time
from concurrent import futures

import numpy as np
import pytest

from tests.data import helpers
from vdm_jax.data import records
from vdm_jax.data import source as source_lib
from vdm_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


class TestReading:
  def test_facts_about_videos(self, coded):
    assert coded.num_videos == len(helpers.LENGTHS)
    np.testing.assert_array_equal(coded.lengths, helpers.LENGTHS)
    assert coded.frame_shape == (4, 6, 3)
    assert [coded.label(i) for i in range(5)] == [0, 1, 0, 1, 0]
    assert (coded.num_labels, coded.label_names) == (2, ["even", "odd"])
    assert (coded.caption(3), coded.name(3), coded.fps[3]) == ("video 3", "v3", 10)

  @pytest.mark.parametrize("video", range(5))
  def test_reads_every_frame(self, coded, video):
    frames = np.arange(helpers.LENGTHS[video])
    np.testing.assert_array_equal(
      coded.read(video, frames), helpers.coded_frames(video, frames)
    )

  def test_any_order_and_repeats(self, coded):
    frames = np.array([40, 0, 7, 8, 40, 40, 16])
    np.testing.assert_array_equal(
      coded.read(4, frames), helpers.coded_frames(4, frames)
    )

  def test_no_frames(self, coded):
    assert coded.read(4, np.zeros(0, int)).shape == (0, 4, 6, 3)

  def test_pooled_frames_are_means_of_blocks(self, coded):
    pooled = source_lib.VideoSource(coded.directory, coded.split, pool=2)
    assert pooled.frame_shape == (2, 3, 3)
    frames = coded.read(4, np.arange(9)).astype(float)
    means = (frames[:, ::2, ::2] + frames[:, 1::2, ::2] + frames[:, ::2, 1::2]
             + frames[:, 1::2, 1::2]) / 4  # fmt: skip
    np.testing.assert_array_equal(pooled.read(4, np.arange(9)), np.rint(means))
    again = pickle.loads(pickle.dumps(pooled))
    np.testing.assert_array_equal(
      again.read(1, np.arange(2)), pooled.read(1, np.arange(2))
    )
    with pytest.raises(UserError, match="config.data.pool: 4, .* 4x6 pixels"):
      source_lib.VideoSource(coded.directory, coded.split, pool=4)

  def test_extras(self, coded):
    frames = np.array([19, 2, 2])
    pose = coded.read_extra(3, "pose", frames)
    np.testing.assert_array_equal(pose, np.stack([frames, frames + 100.0], 1))
    assert pose.dtype == np.float32
    np.testing.assert_array_equal(coded.read_extra(3, "depth", frames), frames * 0.5)
    with pytest.raises(UserError, match=r"unknown extra.*'pos'.*'pose'"):
      coded.read_extra(3, "pos", frames)

  def test_touches_only_the_records_it_needs_in_one_call(self, coded):
    coded.read(0, np.array([0]))
    calls, opened = [], coded._records

    class Spy:
      def __getitems__(self, keys):
        calls.append(list(keys))
        return opened.__getitems__(keys)

    coded.__dict__["_records"] = Spy()
    coded.read(4, np.array([40, 0, 39, 1]))
    # Videos of 3, 8, 9 and 20 frames lie before it: 1 + 1 + 2 + 3 chunks of 8.
    assert calls == [[7, 11, 12]]
    coded.read_many([(1, np.arange(8)), (4, np.array([40])), (1, np.array([3]))])
    assert calls[1:] == [[1, 12]]

  @pytest.mark.parametrize("frame", [-1, 41])
  def test_outside_the_video(self, coded, frame):
    with pytest.raises(IndexError, match="frames 0 to 40 exist"):
      coded.read(4, np.array([0, frame]))

  def test_pickles_small_and_reads_in_threads(self, coded):
    coded.read(0, np.array([0]))
    payload = pickle.dumps(coded)
    assert len(payload) < 1000
    copy = pickle.loads(payload)
    frames = np.array([3, 30])
    with futures.ThreadPoolExecutor(8) as pool:
      for result in pool.map(lambda _: copy.read(4, frames), range(64)):
        np.testing.assert_array_equal(result, helpers.coded_frames(4, frames))

  def test_fingerprint(self, coded, digits, data_dir, tmp_path):
    config = records.ChunkConfig(name="tiny")
    elsewhere = records.build(helpers.Coded, config, tmp_path)
    assert source_lib.VideoSource(elsewhere, "train").fingerprint == coded.fingerprint
    other = records.ChunkConfig(name="tiny", chunk=4)
    changed = records.build(helpers.Coded, other, tmp_path / "other")
    assert source_lib.VideoSource(changed, "train").fingerprint != coded.fingerprint
    assert digits.fingerprint != coded.fingerprint

  def test_records_are_fixed_length_and_in_order(self, coded):
    rows = list(coded._records)
    assert all(row["frames"].shape == (8, 4, 6, 3) for row in rows)
    assert [row["video"] for row in rows] == [0, 1, 2, 2, 3, 3, 3, *[4] * 6]
    assert rows[-1]["start"] == 40 and not rows[-1]["frames"][1:].any()


class TestFinding:
  def test_missing_data_set_says_the_command(self, tmp_path):
    with pytest.raises(UserError) as error:
      source_lib.load("moving_digits/16px_1digit_8frames", tmp_path)
    command = (
      f"vdm-jax data build moving_digits/16px_1digit_8frames --data_dir={tmp_path}"
    )
    assert command in str(error.value) and "\n" not in str(error.value)

  def test_missing_user_data_is_not_built_unasked(self, tmp_path):
    source_lib.ensure_built("video_folder/clips", tmp_path)
    with pytest.raises(UserError, match="build video_folder PATH --name=clips"):
      source_lib.load("video_folder/clips", tmp_path)
    assert not list(tmp_path.iterdir())

  @pytest.mark.parametrize(
    ("name", "message"),
    [
      ("moving_digit/16px", "Did you mean 'moving_digits'"),
      ("moving_digits/16px_9dogs", "found '9dogs'"),
      ("moving_digits/16px_17digitpx", "image_size: expected >= 19, found 16"),
    ],
  )
  def test_unknown_names(self, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
      source_lib.load(name, tmp_path)

  def test_missing_split_names_the_others(self, data_dir):
    # The split that turned out empty was left out.
    with pytest.raises(UserError, match=r"split of coded/tiny 'test'.*Known: train"):
      source_lib.load("coded/tiny", data_dir, "test")

  def test_options_in_place_of_a_config_name(self, tmp_path):
    options = {"image_size": 16, "num_digits": 1, "num_frames": 8}
    spelled = source_lib.locate("moving_digits/16px_1digit_8frames", tmp_path)
    assert source_lib.locate("moving_digits", tmp_path, options) == spelled
    with pytest.raises(UserError, match=r"unknown option.*'size'"):
      source_lib.locate("moving_digits", tmp_path, {"size": 16})

  def test_default_data_dir(self, monkeypatch, tmp_path):
    monkeypatch.setenv("VDM_JAX_DATA", str(tmp_path))
    assert source_lib.default_data_dir() == tmp_path
    monkeypatch.delenv("VDM_JAX_DATA")
    assert source_lib.default_data_dir().name == "vdm_jax_data"

  def test_foreign_layout(self, data_dir, tmp_path):
    built = records.build(helpers.Coded, records.ChunkConfig(name="x"), tmp_path)
    metadata = json.loads((built / "metadata.json").read_text())
    (built / "metadata.json").write_text(json.dumps(metadata | {"layout": "else"}))
    with pytest.raises(UserError, match=r"expected record layout.*found 'else'"):
      source_lib.VideoSource(built, "train")


class TestBuilding:
  def test_same_name_other_options(self, tmp_path):
    records.build(helpers.Coded, records.ChunkConfig(name="x"), tmp_path)
    other = records.ChunkConfig(name="x", chunk=4)
    with pytest.raises(UserError, match="built already, with chunk=8, not 4"):
      records.build(helpers.Coded, other, tmp_path)
    built = records.build(helpers.Coded, other, tmp_path, overwrite=True)
    source = source_lib.VideoSource(built, "train")
    frames = np.arange(41)
    np.testing.assert_array_equal(
      source.read(4, frames), helpers.coded_frames(4, frames)
    )

  def test_failed_build_leaves_nothing(self, tmp_path):
    class Empty(helpers.Coded):
      def videos(self):
        return {"train": iter(())}

    with pytest.raises(UserError, match="no video to store"):
      records.build(Empty, records.ChunkConfig(name="x"), tmp_path)
    assert not list(tmp_path.iterdir())

  def test_extra_of_wrong_length(self, tmp_path):
    class Wrong(helpers.Coded):
      def videos(self):
        video = helpers.coded_video(4)
        video.extra = {"pose": np.zeros((50, 2)), "depth": np.zeros(50)}
        return {"train": [video]}

    with pytest.raises(ValueError, match="41 frames but 50 values of 'pose'"):
      records.build(Wrong, records.ChunkConfig(name="x"), tmp_path)

  def test_killed_build_is_never_picked_up(self, tmp_path):
    name = "moving_digits/16px_1digit_8frames_1000000videos"
    code = (
      "from vdm_jax.data import source;"
      f"source.ensure_built({name!r}, {str(tmp_path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
      deadline = time.time() + 60
      while not list(tmp_path.glob("moving_digits/*/incomplete.*")):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.05)
    finally:
      process.kill()
      process.wait()
    assert list(tmp_path.glob("moving_digits/*/incomplete.*"))
    assert source_lib.list_built(tmp_path) == []
    with pytest.raises(UserError, match="is not built"):
      source_lib.load(name, tmp_path)

  def test_leftovers_of_killed_builds_are_removed(self, tmp_path):
    leftover = tmp_path / "coded" / "x" / "incomplete.2.1.0"
    leftover.mkdir(parents=True)
    (leftover / "train-00000.tmp").write_bytes(b"half a shard")
    records.build(helpers.Coded, records.ChunkConfig(name="x"), tmp_path)
    assert [path.name for path in leftover.parent.iterdir()] == ["2.1.0"]

  def test_no_tensorflow(self, tmp_path):
    code = f"""
import sys
import numpy as np
from vdm_jax import tasks
from vdm_jax.cli import data
from vdm_jax.data import builders, device, pipeline, sheet, source, text, video
name = "moving_digits/16px_1digit_8frames_20videos"
source.ensure_built(name, {str(tmp_path)!r})
loaded = source.load(name, {str(tmp_path)!r})
task = tasks.Unconditional(8)
next(pipeline.make_pipeline(loaded, task, batch_size=4, seed=0, cond=("label",)))
assert "tensorflow" not in sys.modules and "av" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
