"""Moving digits: reproducible bytes, the dynamics, unseen digits, captions."""

import hashlib

import numpy as np
import pytest
import scipy.stats

from vdm_jax.data import records
from vdm_jax.data import source as source_lib
from vdm_jax.data.builders import moving_digits as lib
from vdm_jax.errors import UserError

# Of five clips, from before there was a smallest speed.
DIGEST = "96ae65e2ab7a068b"


def config(**options) -> lib.MovingDigitsConfig:
  return lib.MovingDigitsConfig(**{"image_size": 16, "num_digits": 1} | options)


@pytest.fixture(scope="module")
def paths():
  """(positions, velocities), each int [2000, 60, 2], of 64-pixel clips."""
  clips = [lib.generate(config(image_size=64, num_frames=60), "train", i)
           for i in range(2000)]  # fmt: skip
  positions = np.stack([clip.positions[:, 0] for clip in clips])
  return positions.astype(int), np.stack([clip.velocities[:, 0] for clip in clips])


class TestDynamics:
  """SVG/MCVD: 64 pixels, digit 32, positions 0..31, velocities -4..4."""

  def test_positions_stay_inside(self, paths):
    positions, _ = paths
    assert positions.min() == 0 and positions.max() == 31

  def test_start_is_uniform(self, paths):
    starts = paths[0][:, 0].ravel()
    counts = np.bincount(starts, minlength=32)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3

  def test_first_velocity_is_uniform_with_zero(self, paths):
    counts = np.bincount(paths[1][:, 0].ravel() + 4, minlength=9)
    assert len(counts) == 9
    assert scipy.stats.chisquare(counts).pvalue > 1e-3

  def test_moves_by_its_velocity_unless_a_wall_stops_it(self, paths):
    positions, velocities = paths
    free = positions[:, :-1] + velocities[:, :-1]
    np.testing.assert_array_equal(positions[:, 1:], np.clip(free, 0, 31))

  def test_bounces_inwards_at_a_new_speed(self, paths):
    positions, velocities = paths
    free = positions[:, :-1] + velocities[:, :-1]
    x, y = 0, 1
    # A hit of y alone: x hit nothing, so nothing overwrites what y drew.
    alone = ((free < 0) | (free > 31))[..., y] & ~((free < 0) | (free > 31))[..., x]
    for wall, sign in ((free[..., y] < 0, 1), (free[..., y] > 31, -1)):
      after = velocities[:, 1:][alone & wall]
      normal, tangential = sign * after[:, y], after[:, x]
      assert set(normal) == {1, 2, 3, 4}
      assert set(tangential) == set(range(-4, 5))
      assert scipy.stats.chisquare(np.bincount(normal)[1:]).pvalue > 1e-3
      assert scipy.stats.chisquare(np.bincount(tangential + 4)).pvalue > 1e-3

  def test_velocity_changes_only_at_walls(self, paths):
    positions, velocities = paths
    free = positions[:, :-1] + velocities[:, :-1]
    hit = ((free < 0) | (free > 31)).any(-1)
    changed = (velocities[:, 1:] != velocities[:, :-1]).any(-1)
    assert not (changed & ~hit).any() and hit.any()

  def test_deterministic_variant_reflects(self):
    options = config(image_size=64, num_frames=60, deterministic=True)
    for index in range(50):
      speed = np.abs(lib.generate(options, "train", index).velocities)
      assert (speed == speed[0]).all()

  @pytest.mark.parametrize("deterministic", [False, True])
  def test_with_a_smallest_speed_it_never_stands_still(self, deterministic):
    options = config(
      image_size=64, num_frames=60, min_speed=2, deterministic=deterministic
    )
    clips = [lib.generate(options, "train", index) for index in range(300)]
    found = np.stack([clip.velocities[:, 0] for clip in clips])
    assert set(np.abs(found).ravel()) == {2, 3, 4}
    first = found[:, 0].ravel()
    counts = [np.sum(first == v) for v in (-4, -3, -2, 2, 3, 4)]
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    moved = np.diff(np.stack([clip.positions[:, 0] for clip in clips]), axis=1)
    still = np.abs(moved).max(-1) == 0
    # In a corner both walls stop it, for one frame.
    assert still.mean() < 0.02 and not (still[:, 1:] & still[:, :-1]).any()

  def test_without_one_clips_are_what_they_were(self):
    """Runs name their data: the same name must stay the same clips."""
    frames = [lib.generate(config(num_frames=20), "train", i).frames for i in range(5)]
    assert hashlib.sha256(np.stack(frames).tobytes()).hexdigest()[:16] == DIGEST

  @pytest.mark.parametrize("speed", [-1, 2])
  def test_a_smallest_speed_above_the_largest_is_refused(self, speed):
    with pytest.raises(UserError, match="min_speed: expected 0 to 1"):
      config(min_speed=speed)

  @pytest.mark.parametrize(("size", "speed"), [(16, 1), (24, 2), (32, 2), (64, 4)])
  def test_speed_scales_with_the_frame(self, size, speed):
    assert config(image_size=size).max_speed == speed


class TestClips:
  def test_is_a_function_of_seed_split_and_index(self):
    clip = lib.generate(config(), "train", 3)
    again = lib.generate(config(), "train", 3)
    np.testing.assert_array_equal(clip.frames, again.frames)
    for other in (
      lib.generate(config(), "train", 4),
      lib.generate(config(), "test", 3),
      lib.generate(config(seed=1), "train", 3),
    ):
      assert not np.array_equal(clip.frames, other.frames)

  def test_frames_show_the_digit_where_it_is(self):
    clip = lib.generate(config(image_size=32, num_frames=5), "train", 0)
    for frame, position in zip(clip.frames, clip.positions, strict=True):
      x, y = position[0].astype(int)
      assert frame.shape == (32, 32, 1)
      inside = frame[y : y + 16, x : x + 16]
      assert inside.sum() == frame.sum() > 0

  def test_two_digits_add_up_and_clip(self):
    options = config(image_size=24, num_digits=2, num_frames=4, channels=3)
    clip = lib.generate(options, "validation", 1)
    assert clip.frames.shape == (4, 24, 24, 3) and clip.positions.shape == (4, 2, 2)
    assert (clip.frames == clip.frames[..., :1]).all() and clip.frames.max() == 255

  def test_caption_tells_the_first_motion(self):
    for index in range(40):
      clip = lib.generate(config(), "train", index)
      (dx, dy), label = clip.velocities[0, 0], clip.labels[0]
      assert clip.caption.startswith(f"the digit {label} ")
      assert ("left" in clip.caption) == (dx < 0)
      assert ("right" in clip.caption) == (dx > 0)
      assert ("up" in clip.caption) == (dy < 0)
      assert ("down" in clip.caption) == (dy > 0)
      assert ("standing still" in clip.caption) == (dx == dy == 0)

  def test_digits_of_the_splits_are_disjoint(self):
    images = {split: lib.digit_images(split) for split in lib.SPLITS}
    assert [len(images[split][0]) for split in lib.SPLITS] == [1197, 300, 300]
    seen = [
      {image.tobytes() for image in images[split][0]} for split in ("train", "test")
    ]
    assert len(seen[0] & seen[1]) <= 2  # The data set itself repeats hardly a digit.
    pixels, labels = images["test"]
    assert pixels.shape[1:] == (8, 8) and 0 <= pixels.min() < pixels.max() <= 1
    assert set(labels) == set(range(10))
    with pytest.raises(UserError, match="expected one of train, validation, test"):
      lib.digit_images("dev")

  def test_enlarging_keeps_the_digit(self):
    images = lib.digit_images("train")[0][:200]
    np.testing.assert_array_equal(lib.enlarge(images, 8), images)
    large = lib.enlarge(images, 32)
    assert large.min() == 0 and large.max() == 1
    blocks = large.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    assert np.corrcoef(blocks.ravel(), images.ravel())[0, 1] > 0.9
    # Crisp: few pixels of a stroke's edge are neither ink nor paper.
    assert ((large > 0.15) & (large < 0.85)).mean() < 0.2

  def test_render_digit(self):
    image = np.ones((8, 8), np.float32)
    frame = lib.render_digit(image, (3, 5), 16)
    assert frame[5:13, 3:11].all() and frame.sum() == 64
    with pytest.raises(ValueError, match="leaves a frame"):
      lib.render_digit(image, (9, 0), 16)


class TestDataSet:
  def test_same_seed_same_bytes(self, tmp_path):
    options = config(num_videos=30)
    first = records.build(lib.MovingDigits, options, tmp_path / "a")
    again = records.build(lib.MovingDigits, config(num_videos=30), tmp_path / "b")
    other = records.build(
      lib.MovingDigits, config(num_videos=30, seed=1), tmp_path / "c"
    )
    files = sorted(path.name for path in first.glob("*.array_record*"))
    assert len(files) == 3
    for name in [*files, "metadata.json"]:
      assert (first / name).read_bytes() == (again / name).read_bytes()
    assert (first / files[0]).read_bytes() != (other / files[0]).read_bytes()

  def test_holds_what_generate_makes(self, digits):
    options = lib.MovingDigits.parse(digits.config_name)
    for index in (0, 17, 119):
      clip = lib.generate(options, "train", index)
      np.testing.assert_array_equal(digits.read(index, np.arange(8)), clip.frames)
      np.testing.assert_array_equal(
        digits.read_extra(index, "position", np.arange(8)), clip.positions
      )
      assert digits.label(index) == clip.labels[0]
      assert digits.caption(index) == clip.caption
    assert digits.num_labels == 10

  def test_splits(self, data_dir, digits):
    assert source_lib.splits(digits.directory) == ["test", "train", "validation"]
    test = source_lib.load(digits.full_name, data_dir, "test")
    assert (digits.num_videos, test.num_videos) == (120, 12)

  @pytest.mark.parametrize(
    ("name", "fields"),
    [
      ("24px_2digits_12frames", {"image_size": 24, "digit_size": 12, "num_frames": 12}),
      ("32px_1digit_16frames_deterministic_rgb", {"channels": 3, "num_digits": 1}),
      ("12frames_24px_7seed_14digitpx", {"seed": 7, "digit_size": 14}),
      ("16px_1digit_100frames_1minspeed", {"min_speed": 1, "num_frames": 100}),
      ("", {"image_size": 64, "num_digits": 2, "num_frames": 20}),
    ],
  )
  def test_names_and_options_agree(self, name, fields):
    parsed = lib.MovingDigits.parse(name)
    assert {field: getattr(parsed, field) for field in fields} == fields
    assert lib.MovingDigits.parse(parsed.name).options() == parsed.options()

  def test_builds_a_named_config(self, tmp_path):
    # TFDS insists on its own object for those.
    named = lib.MovingDigits.parse("16px_1digit_8frames")
    assert named is lib.MovingDigits.BUILDER_CONFIGS[0]
    assert lib.MovingDigits(data_dir=tmp_path, config=named).builder_config is named


@pytest.fixture(scope="module")
def clips():
  """By split, clips of 32 pixels that are described."""
  described = config(image_size=32, num_frames=9, captions=True, deterministic=True)
  return {
    split: [lib.generate(described, split, i) for i in range(1500)]
    for split in ("train", "test")
  }


class TestCaptions:
  def directions(self, clips):
    signs = [tuple(np.sign(clip.velocities[0, 0]).tolist()) for clip in clips]
    return np.array([lib.DIRECTIONS.index(sign) for sign in signs])

  def test_say_digit_and_direction(self, clips):
    wordings = set()
    for clip, way in zip(clips["train"], self.directions(clips["train"]), strict=True):
      digit = clip.labels[0]
      subject, verb, *rest = clip.caption.rsplit(
        maxsplit=1 + lib.words(way).count(" ") + 1
      )
      assert " ".join(rest) == lib.words(way) and verb in lib._VERBS
      assert subject.endswith((lib.NUMERALS[digit], f"digit {digit}"))
      wordings.add((subject.replace(lib.NUMERALS[digit], "?")[:7], verb))
    assert len(wordings) >= 9

  def test_hold_combinations_out_of_training(self, clips):
    def held(split):
      ways = self.directions(clips[split])
      digits = [int(clip.labels[0]) for clip in clips[split]]
      return {(d, w) for d, w in zip(digits, ways, strict=True) if lib.held_out(d, w)}

    assert held("train") == set()
    assert len(held("test")) == 20  # Two ways of each digit.

  def test_every_way_is_as_likely_as_the_others(self, clips):
    counts = np.bincount(self.directions(clips["test"]), minlength=8)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3

  def test_goes_that_way_at_first(self, clips):
    for clip in clips["test"]:
      moved = clip.positions[4, 0] - clip.positions[0, 0]
      assert (np.sign(moved) == np.sign(clip.velocities[0, 0])).all()

  def test_other_data_sets_are_as_they_were(self):
    assert config().name == "16px_1digit_20frames"
    assert config(captions=True).name == "16px_1digit_20frames_captions"
