"""Files as people have them: bombs, cuts, wrong clocks, tables from spreadsheets."""

import fractions
import gc
import os
import struct

import numpy as np
import PIL.Image
import pytest

from tests.data import helpers
from tests.data.test_video_folder import build
from vdm_jax import tasks
from vdm_jax.data import container, decode, hdr, pipeline, video
from vdm_jax.errors import UserError


def clip(count=4, size=16):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
  """A folder with one good video."""
  root = tmp_path / "clips"
  root.mkdir()
  video.write_gif(root / "good.gif", clip(), fps=10)
  return root


def frames_of(path, **options):
  return list(decode.decode(path, **options))


def test_a_picture_that_claims_to_be_huge_is_one_skipped_file(root, tmp_path, report):
  bomb = bytearray((root / "good.gif").read_bytes())
  bomb[6:10] = struct.pack("<HH", 65535, 65535)
  (root / "bomb.gif").write_bytes(bomb)
  assert set(build(root, tmp_path)) == {"good.gif"}
  assert "bomb.gif: cannot be decoded" in report()


def test_a_gif_cut_anywhere_is_unreadable(tmp_path):
  path = tmp_path / "whole.gif"
  video.write_gif(path, clip(), fps=10)
  data = path.read_bytes()
  assert len(frames_of(path)) == 4
  cut = tmp_path / "cut.gif"
  for size in {*range(0, len(data) - 1, 7), *range(len(data) - 40, len(data))}:
    cut.write_bytes(data[:size])
    with pytest.raises(decode.Unreadable, match="truncated" if size > 2 else "no GIF"):
      frames_of(cut)


def test_a_gif_with_damage_inside_raises_what_is_meant_or_nothing(tmp_path):
  path = tmp_path / "whole.gif"
  video.write_gif(path, clip(), fps=10)
  data = path.read_bytes()
  rng = np.random.default_rng(1)
  damaged = tmp_path / "damaged.gif"
  refused = 0
  for _ in range(60):
    worse = bytearray(data)
    for place in rng.integers(0, len(data), 3):
      worse[place] = rng.integers(256)
    damaged.write_bytes(worse)
    try:
      frames_of(damaged)
    except decode.Unreadable:
      refused += 1
  assert refused > 10


def test_links_that_lead_nowhere_and_folders_that_cannot_be_listed(
  root, tmp_path, report, monkeypatch
):
  (root / "gone.mp4").symlink_to(root / "nobody.mp4")
  (root / "shut").mkdir()
  listing = os.listdir

  def refuse(path="."):
    if str(path).endswith("shut"):
      raise PermissionError(13, "Permission denied")
    return listing(path)

  monkeypatch.setattr(os, "listdir", refuse)
  assert set(build(root, tmp_path)) == {"good.gif"}
  assert "gone.mp4: no such video" in report()
  assert "shut: Permission denied" in report()


@pytest.mark.parametrize(
  ("contents", "message"),
  [
    (
      b"file,caption\ngood.gif,caf\xe9\n",
      r"line 2: expected UTF-8, found the byte 0xe9",
    ),
    (
      b"file,caption\n\ngood.gif,a cat, asleep\n",
      r"line 3: expected 2 fields .*found 3",
    ),
    (b"file,caption\ngood.gif\n", r"line 2: expected 2 fields .*found 1"),
    (b'file,caption\ngood.gif,"a cat\n', r"line 2: not readable as CSV"),
    (b"name,caption\ngood.gif,a cat\n", r"expected the columns file,caption"),
  ],
)
def test_a_table_that_a_spreadsheet_spoilt_is_named_by_line(
  root, tmp_path, contents, message
):
  (root / "captions.csv").write_bytes(contents)
  with pytest.raises(UserError, match=r"captions\.csv.*" + message):
    build(root, tmp_path)


def test_a_byte_order_mark_quotes_and_empty_lines_are_fine(root, tmp_path):
  text = '\ufefffile,caption\r\n\r\ngood.gif,"a ""cat"", asleep"\r\n'
  (root / "captions.csv").write_bytes(text.encode())
  source, number = build(root, tmp_path)["good.gif"]
  assert source.caption(number) == 'a "cat", asleep'


def test_thumbnails_beside_films_are_counted_and_make_no_video(root, tmp_path, report):
  dogs = root / "dogs"
  dogs.mkdir()
  video.write_gif(dogs / "rex.gif", clip(), fps=10)
  for name in ("rex.jpg", "ben.jpg"):
    PIL.Image.fromarray(clip()[0]).save(dogs / name)
  (dogs / "notes.txt").write_text("good boy")
  (dogs / "LICENSE").write_text("none")
  assert set(build(root, tmp_path)) == {"good.gif", "dogs/rex.gif"}
  assert "left out: 2 .jpg, 1 .txt, 1 without a suffix" in report()


def test_a_frame_an_hour_late_is_refused_and_named(tmp_path):
  path = tmp_path / "late.mkv"
  times = [100 * i + 3_600_000 * (i == 9) for i in range(10)]
  helpers.write(path, clip(10, 32), times_ms=times)
  with pytest.raises(decode.Unreadable, match=r"frame 9 is \+3600.\d seconds from"):
    frames_of(path, fps=8)


def test_oblong_pixels_come_out_as_a_player_shows_them(tmp_path):
  # A white square in the middle of pixels twice as wide as high: twice as wide.
  frames = np.zeros((4, 64, 64, 3), np.uint8)
  frames[:, 24:40, 24:40] = 255
  for suffix, codec in (("mp4", "libx264"), ("avi", "mpeg4")):
    path = tmp_path / f"oblong.{suffix}"
    helpers.write(path, frames, codec=codec, aspect=fractions.Fraction(2, 1))
    _, frame = frames_of(path, size=(64, 64))[0]
    bright = frame[..., 0] > 128
    height, width = bright.any(1).sum(), bright.any(0).sum()
    assert width == pytest.approx(2 * height, rel=0.15), suffix
    _, frame = frames_of(path)[0]
    assert frame.shape == (64, 128, 3)


def test_a_title_in_another_encoding_is_no_reason_to_refuse(tmp_path):
  path = tmp_path / "titled.avi"
  helpers.write(path, clip(4, 32), codec="mpeg4", title="cafe")
  data = path.read_bytes()
  assert data.count(b"cafe") == 1
  path.write_bytes(data.replace(b"cafe", b"caf\xe9"))
  assert len(frames_of(path)) == 4


def test_pictures_of_sixteen_bits_and_of_clear_pixels(tmp_path):
  folder = tmp_path / "frames"
  folder.mkdir()
  deep = np.full((8, 8), 257 * 100, np.uint16)
  PIL.Image.fromarray(deep).save(folder / "0.png")
  clear = np.full((8, 8, 4), 200, np.uint8)
  clear[:4, :, 3], clear[4:, :, 3] = 0, 255
  PIL.Image.fromarray(clear).save(folder / "1.png")
  first, second = (frame for _, frame in frames_of(folder))
  assert (first == 100).all()
  assert (second[:4] == 0).all() and (second[4:] == 200).all()


def test_gif_delays_that_no_browser_keeps(tmp_path):
  path = tmp_path / "fast.gif"
  images = [PIL.Image.fromarray(frame) for frame in clip()]
  images[0].save(path, save_all=True, append_images=images[1:], duration=10)
  assert [time for time, _ in frames_of(path)] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_of_interlaced_frames_the_first_field_counts(tmp_path):
  frames = np.full((8, 64, 64, 3), 30, np.uint8)
  frames[:, ::2] = 220
  for name, codec, options in (
    ("a.mp4", "libx264", {"x264-params": "interlaced=1:crf=5"}),
    ("b.mpg", "mpeg2video", {"flags": "+ilme+ildct"}),
  ):
    path = tmp_path / name
    helpers.write(path, frames, fps=25, codec=codec, codec_options=options)
    found = np.stack([frame for _, frame in frames_of(path)])
    assert found.shape == frames.shape
    np.testing.assert_allclose(found, 220, atol=8)
  # Lines of a video that is not interlaced stay as they are.
  helpers.write(tmp_path / "c.mp4", frames, codec_options={"crf": "5"})
  found = np.stack([frame for _, frame in frames_of(tmp_path / "c.mp4")])
  assert abs(found[:, ::2].mean() - 220) < 10 and abs(found[:, 1::2].mean() - 30) < 10


@pytest.mark.parametrize(
  ("transfer", "name", "white"),
  [(hdr.PQ, "smpte2084", 148), (hdr.HLG, "arib-std-b67", 191)],
)
def test_films_of_a_high_range_are_shown_as_on_an_ordinary_screen(
  tmp_path, transfer, name, white
):
  codes = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, -1)
  shown = hdr.to_sdr(codes, transfer)[0].astype(int)
  assert (np.ptp(shown, axis=-1) <= 1).all()  # Grey stays grey.
  assert (np.diff(shown[:, 0]) >= 0).all() and shown[0, 0] == 0 and shown[-1, 0] > 250
  assert 235 <= shown[white, 0] <= 245  # Graphics white, nearly white.
  # Red beyond BT.709 is red at the edge of it, not black and not pink.
  red = hdr.to_sdr(np.array([[[150, 0, 0]]], np.uint8), transfer)[0, 0]
  assert red[0] > 150 and red[1] == red[2] == 0
  path = tmp_path / "film.mp4"
  params = f"crf=5:transfer={name}:colorprim=bt2020:colormatrix=bt2020nc"
  helpers.write(
    path,
    np.full((4, 32, 32, 3), white, np.uint8),
    pix_fmt="yuv420p10le",
    codec_options={"x264-params": params},
  )
  np.testing.assert_allclose(frames_of(path)[0][1], 240, atol=6)


def test_null_frames_of_an_avi_are_stills(tmp_path):
  path = tmp_path / "nulls.avi"
  frames = helpers.quadrants(10)
  # FFmpeg fills the gaps with null frames.
  times = [100 * i + 300 * (i > 4) for i in range(10)]
  helpers.write(path, frames, codec="mpeg4", fps=10, times_ms=times)
  assert [round(time, 1) for time, _ in frames_of(path)] == [
    round(time / 1000, 1) for time in times
  ]
  found = np.stack([frame for _, frame in frames_of(path, fps=10)])
  assert len(found) == 13
  expected = helpers.ramp(frames)[[0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8, 9]]
  np.testing.assert_allclose(helpers.ramp(found), expected, atol=12)
  data = path.read_bytes()
  path.write_bytes(data[: int(0.8 * data.index(b"idx1"))])
  with pytest.raises(decode.Unreadable):
    frames_of(path)


def test_labels_are_the_numbers_that_stand_there(root, tmp_path, report):
  video.write_gif(root / "other.gif", clip(), fps=10)
  (root / "labels.csv").write_text("file,label\ngood,1\nother,2\n")
  found = build(root, tmp_path)
  source, number = found["good.gif"]
  assert source.label(number) == 1 and source.num_labels == 3
  assert "labels are numbers from 1 on: those below it have no videos" in report()


def test_a_data_set_smaller_than_a_batch(root, tmp_path):
  source, _ = build(root, tmp_path)["good.gif"]
  task = tasks.Unconditional(4)
  batches = pipeline.make_pipeline(
    source, task, batch_size=8, seed=0, cond=("video",), num_threads=0
  )
  batch = next(batches)
  assert batch["video"].shape == (8, 4, 16, 16, 3)
  assert (batch["cond"]["video"] == 0).all()  # The one video, eight times.


def test_a_pipe_is_no_film(root, tmp_path, report):
  os.mkfifo(root / "pipe.gif")
  assert set(build(root, tmp_path)) == {"good.gif"}
  assert "pipe.gif: expected a file, found a pipe or a device" in report()


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_picture_of_too_many_pixels(tmp_path):
  folder = tmp_path / "frames"
  folder.mkdir()
  PIL.Image.new("1", (1 << 14, (1 << 13) + 1)).save(folder / "0.png")
  with pytest.raises(decode.Unreadable, match="16384x8193 pixels"):
    frames_of(folder)


# Found by tests/data/test_fuzz.py, seed 1, case 82.
def test_a_frame_that_is_decoded_but_cannot_be_converted(tmp_path, monkeypatch):
  helpers.write(tmp_path / "a.mp4", clip(4, 32))

  def refuse():
    raise BlockingIOError(11, "Resource temporarily unavailable")

  monkeypatch.setattr(container, "_upright", lambda _: (False, refuse))
  for fps in (0, 8):
    with pytest.raises(decode.Unreadable, match="Resource temporarily unavailable"):
      frames_of(tmp_path / "a.mp4", fps=fps)


@pytest.mark.skipif(
  not os.path.exists("/proc/self/task"), reason="Linux counts threads"
)
def test_frames_leave_no_threads_behind(tmp_path):
  helpers.write(tmp_path / "a.mp4", clip(20, 64))
  gc.disable()
  try:
    before = len(os.listdir("/proc/self/task"))
    for _ in range(10):
      frames_of(tmp_path / "a.mp4", threads=1)
    assert len(os.listdir("/proc/self/task")) <= before + 2
  finally:
    gc.enable()
