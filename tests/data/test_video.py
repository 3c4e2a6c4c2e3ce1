"""Clips in and out of real files, and contact sheets."""

import sys
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from tests.data import helpers
from vdm_jax import frames as frames_lib
from vdm_jax import pixels
from vdm_jax.data import decode, sheet, video
from vdm_jax.errors import UserError

CODECS = {
  "mp4": "libx264",
  "mov": "libx264",
  "mkv": "libx264",
  "avi": "mpeg4",
  "webm": "libvpx-vp9",
}


@pytest.fixture
def noise() -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)


class TestPixels:
  def test_uint8_round_trip(self):
    levels = np.arange(256, dtype=np.uint8)
    floats = pixels.to_float(levels)
    assert floats.dtype == np.float32 and (floats[0], floats[-1]) == (-1, 1)
    np.testing.assert_array_equal(pixels.to_uint8(floats), levels)
    np.testing.assert_array_equal(
      pixels.to_uint8(pixels.to_float(jnp.array(levels))), levels
    )

  def test_rounds_then_clips(self):
    values = np.array([-1.7, -1.0, 0.0, 0.0042, 1.0, 3.0], np.float32)
    assert pixels.to_uint8(values).tolist() == [0, 0, 128, 128, 255, 255]


class TestReading:
  @pytest.mark.parametrize("suffix", CODECS)
  def test_every_container(self, tmp_path, suffix):
    path = helpers.write(
      tmp_path / f"a.{suffix}", helpers.quadrants(), codec=CODECS[suffix]
    )
    clip = video.read_video(path)
    assert clip.shape == (12, 32, 48, 3) and clip.dtype == np.uint8
    assert helpers.corner_colours(clip[-1]) == "rgbw"
    np.testing.assert_allclose(helpers.ramp(clip), np.linspace(20, 235, 12), atol=8)

  @pytest.mark.parametrize(
    ("degrees", "mirrored", "corners"),
    [
      (0, False, "rgbw"),
      (90, False, "gwrb"),  # Counter-clockwise.
      (180, False, "wbgr"),
      (-90, False, "brwg"),
      (0, True, "grwb"),
    ],
  )
  def test_rotation_and_mirroring(self, tmp_path, degrees, mirrored, corners):
    path = helpers.write(
      tmp_path / "a.mp4", helpers.quadrants(), rotation=degrees, mirrored=mirrored
    )
    clip = video.read_video(path)
    assert clip.shape[1:3] == ((48, 32) if degrees in (90, -90) else (32, 48))
    assert helpers.corner_colours(clip[-1]) == corners

  @pytest.mark.parametrize("degrees", [0, 90])
  def test_oblong_pixels(self, tmp_path, degrees):
    # Pixels twice as wide as high: 48x32 is shown as 96x32, a third of it a square.
    path = helpers.write(
      tmp_path / "a.mp4",
      helpers.quadrants(),
      aspect=Fraction(2),
      rotation=degrees,
    )
    whole = video.read_video(path, size=(96, 32) if degrees else (32, 96))
    assert helpers.corner_colours(whole[-1]) == ("gwrb" if degrees else "rgbw")
    shown = video.read_video(path)[-1]
    assert shown.shape == ((96, 32, 3) if degrees else (32, 96, 3))
    cut = shown[32:64] if degrees else shown[:, 32:64]
    square = video.read_video(path, size=16)[-1]
    middle = np.asarray(
      PIL.Image.fromarray(cut).resize((16, 16), PIL.Image.Resampling.BOX)
    )
    # It was made wider by interpolation, and narrower again by averaging.
    np.testing.assert_allclose(square.astype(int), middle.astype(int), atol=20)

  def test_resizes_by_area_after_a_centre_crop(self, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, frame in enumerate(frames):
      PIL.Image.fromarray(frame).save(folder / f"{i}.png")
    expected = frames[:, :, 8:40].reshape(2, 8, 4, 8, 4, 3).mean((2, 4))
    clip = video.read_video(folder, size=8)
    np.testing.assert_allclose(clip, expected, atol=1)
    grey = video.read_video(folder, size=(16, 24), channels=1)
    assert grey.shape == (2, 16, 24, 1)
    assert video.read_video(folder, size=64).shape == (2, 64, 64, 3)

  def test_target_frame_rate(self, tmp_path):
    path = helpers.write(tmp_path / "a.mp4", helpers.quadrants(20), fps=10)
    ramp = np.linspace(20, 235, 20)
    half, double = video.read_video(path, fps=5), video.read_video(path, fps=20)
    np.testing.assert_allclose(helpers.ramp(half), ramp[::2], atol=8)
    np.testing.assert_allclose(helpers.ramp(double), ramp.repeat(2), atol=8)
    assert len(video.read_video(path, fps=5, max_frames=3)) == 3

  @pytest.mark.parametrize("fps", [-5.0, float("inf"), float("nan")])
  def test_a_rate_at_which_a_film_never_ends(self, tmp_path, fps):
    video.write_gif(tmp_path / "a.gif", helpers.quadrants(4), fps=10)
    with pytest.raises(UserError, match=r"`fps=(-5|inf|nan)`: expected frames per sec"):
      video.read_video(tmp_path / "a.gif", fps=fps, max_frames=9)

  def test_variable_frame_rate(self, tmp_path):
    # Frames 0 to 5 at 100 ms, a second of rest, then 6 to 9.
    times = [0, 100, 200, 300, 400, 500, 1500, 1600, 1700, 1800]
    frames = helpers.quadrants(10)
    path = helpers.write(tmp_path / "a.mp4", frames, times_ms=times)
    ramp = np.linspace(20, 235, 10)
    shown = [max(i for i in range(10) if times[i] <= 100 * k) for k in range(19)]
    found = helpers.ramp(video.read_video(path, fps=10))
    np.testing.assert_allclose(found[:19], ramp[shown], atol=8)
    assert len(found) in (19, 20)  # How long the last one lasts, MP4 can but guess.
    seconds = [time for time, _ in decode.decode(path)]
    np.testing.assert_allclose(seconds, np.array(times) / 1000, atol=2e-3)

  def test_pictures_in_natural_order(self, tmp_path):
    for number in (1, 2, 10):
      image = np.full((6, 6), number * 20, np.uint8)
      PIL.Image.fromarray(image).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    clip = video.read_video(tmp_path, channels=1)
    assert clip[:, 0, 0, 0].tolist() == [20, 40, 200]

  def test_pictures_of_two_sizes(self, tmp_path):
    for number, side in enumerate((6, 8)):
      PIL.Image.new("RGB", (side, side)).save(tmp_path / f"{number}.jpg")
    with pytest.raises(UserError, match=r"one size, found \(6, 6\) and \(8, 8\)"):
      video.read_video(tmp_path)


class TestDamage:
  @pytest.mark.parametrize("suffix", CODECS)
  def test_truncated(self, tmp_path, noise, suffix):
    options = {"movflags": "+faststart"} if suffix in ("mp4", "mov") else None
    path = helpers.write(
      tmp_path / f"a.{suffix}", noise, codec=CODECS[suffix], options=options
    )
    assert len(video.read_video(path)) == 40
    with pytest.raises(decode.Unreadable, match="truncated"):
      video.read_video(helpers.truncate(path))

  def test_truncated_before_its_index(self, tmp_path, noise):
    path = helpers.truncate(helpers.write(tmp_path / "a.mp4", noise))
    with pytest.raises(decode.Unreadable, match="cannot be decoded"):
      video.read_video(path)

  @pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webm"])
  def test_not_a_video(self, tmp_path, name):
    (tmp_path / name).write_bytes(b"hello, I am no video" * 50)
    with pytest.raises(decode.Unreadable, match="cannot be decoded"):
      video.read_video(tmp_path / name)

  def test_truncated_gif_and_picture(self, tmp_path, noise):
    video.write_gif(tmp_path / "a.gif", noise[:4])
    with pytest.raises(decode.Unreadable):
      video.read_video(helpers.truncate(tmp_path / "a.gif"))
    (tmp_path / "p").mkdir()
    PIL.Image.fromarray(noise[0]).save(tmp_path / "p" / "0.png")
    helpers.truncate(tmp_path / "p" / "0.png")
    with pytest.raises(decode.Unreadable, match=r"0\.png: cannot be decoded"):
      video.read_video(tmp_path / "p")

  def test_missing(self, tmp_path):
    with pytest.raises(UserError, match="no such video"):
      video.read_video(tmp_path / "a.mp4")

  def test_names_the_extra(self, tmp_path, monkeypatch):
    path = helpers.write(tmp_path / "a.mp4", helpers.quadrants())
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"`video` extra.*vdm_jax\[video\]"):
      video.read_video(path)
    with pytest.raises(UserError, match="`video` extra"):
      video.write_mp4(path, helpers.quadrants())
    video.write_gif(tmp_path / "a.gif", helpers.quadrants())
    assert len(video.read_video(tmp_path / "a.gif")) == 12


class TestWriting:
  def test_grey_gif_is_lossless(self, tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (7, 10, 14, 1), np.uint8)
    video.write_video(tmp_path / "a.gif", clip, fps=30)
    np.testing.assert_array_equal(
      video.read_video(tmp_path / "a.gif", channels=1), clip
    )

  def test_gif_keeps_time(self, tmp_path):
    # 1/30 s is no whole number of GIF's hundredths.
    clip = helpers.quadrants(60)
    video.write_gif(tmp_path / "a.gif", clip, fps=30)
    with PIL.Image.open(tmp_path / "a.gif") as gif:
      total = 0
      for number in range(gif.n_frames):
        gif.seek(number)
        total += gif.info["duration"]
      assert gif.info["loop"] == 0
    assert total == 2000
    still = np.repeat(helpers.quadrants(2), 3, axis=0)
    video.write_gif(tmp_path / "b.gif", still, fps=10)
    assert len(video.read_video(tmp_path / "b.gif", fps=10)) == 6

  def test_colour_gif_is_close(self, tmp_path):
    y, x = np.mgrid[:64, :64]
    clip = np.stack([np.stack([x * 4, y * 4, x + y + 16 * t], -1) for t in range(6)])
    clip = clip.astype(np.uint8)
    video.write_gif(tmp_path / "a.gif", clip)
    error = video.read_video(tmp_path / "a.gif").astype(float) - clip
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 30

  @pytest.mark.parametrize(("height", "width"), [(32, 48), (17, 31)])
  def test_mp4(self, tmp_path, height, width):
    clip = helpers.quadrants(12, height, width)
    video.write_video(tmp_path / "deep" / "a.mp4", clip, fps=12.5, scale=3)
    found = video.read_video(tmp_path / "deep" / "a.mp4")
    even = [3 * height + height % 2, 3 * width + width % 2]
    assert found.shape == (12, *even, 3)
    error = found[:, : 3 * height, : 3 * width] - video.enlarge(clip, 3).astype(float)
    # Half the colour resolution costs most where saturated colours meet.
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 22
    assert helpers.corner_colours(found[-1]) == "rgbw"
    assert len(video.read_video(tmp_path / "deep" / "a.mp4", fps=25)) == 24

  def test_grey_mp4(self, tmp_path):
    video.write_mp4(tmp_path / "a.mp4", helpers.quadrants()[..., :1])
    assert len(video.read_video(tmp_path / "a.mp4")) == 12

  def test_other_names_and_arrays(self, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.gif or \.mp4"):
      video.write_video(tmp_path / "a.avi", helpers.quadrants())
    with pytest.raises(ValueError, match="expected a clip uint8"):
      video.write_gif(tmp_path / "a.gif", helpers.quadrants().astype(np.float32))
    with pytest.raises(UserError, match="`fps=0`: expected more than 0 frames per sec"):
      video.write_gif(tmp_path / "a.gif", helpers.quadrants(), fps=0)

  def test_visible_scale(self):
    assert [video.visible_scale(s, s) for s in (16, 64, 128, 500)] == [8, 2, 1, 1]


class TestSheet:
  def test_layout(self):
    clips = [helpers.quadrants(4, 16, 16), helpers.quadrants(2, 16, 16)]
    plain = sheet.contact_sheet(clips, scale=2)
    assert plain.shape == (2 + 2 * 34, 2 + 4 * 34, 3)
    np.testing.assert_array_equal(plain[2:34, 2:34], video.enlarge(clips[0][0], 2))
    assert (plain[36:68, 2 + 2 * 34 :] == 255).all()  # The second row is shorter.
    captioned = sheet.contact_sheet(clips, scale=2, captions=["a digit", ""])
    margin = captioned.shape[1] - plain.shape[1]
    assert margin > 0 and captioned[2:34, :margin].min() < 100
    assert captioned[36:68, :margin].min() == 255

  def test_borders_show_roles(self, tmp_path):
    frames = frames_lib.clip(1, 4, observed=[0])
    clips = np.zeros((1, 4, 16, 16, 1), np.uint8)
    borders = sheet.role_colours(frames)
    assert borders == [[sheet.OBSERVED, sheet.LATENT, sheet.LATENT, sheet.LATENT]]
    sheet.write_contact_sheet(tmp_path / "x" / "a.png", clips, borders=borders)
    picture = np.asarray(PIL.Image.open(tmp_path / "x" / "a.png"))
    assert tuple(picture[5, 10]) == sheet.OBSERVED
    assert tuple(picture[5, 10 + 70]) == sheet.LATENT
