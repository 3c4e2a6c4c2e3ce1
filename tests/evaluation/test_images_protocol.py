"""Protocol `images`: rules of papers' scripts, mean and best of the members."""

import numpy as np
import pytest

from tests.evaluation import places
from tests.helpers import load_config
from vdm_jax import sampling
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import image_rules, images_protocol, protocol, protocols
from vdm_jax.metrics import image


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def clip():
  truth = noise(3, 16, 16, 3)
  # The second half of the members is nearer, and later frames are farther off.
  off = noise(4, 3, 16, 16, 3, seed=1).astype(float) - truth
  scale = np.array([1.0, 0.9, 0.2, 0.4])[:, None] * np.array([0.2, 0.5, 1.0])
  return np.rint(truth + scale[..., None, None, None] * off).astype(np.uint8), truth


def test_every_rule_says_what_its_text_says(clip):
  members, truth = clip
  found = {
    name: images_protocol.measure(members, truth, rule)
    for name, rule in image_rules.RULES.items()
  }
  x, y = members / 255, np.broadcast_to(truth / 255, members.shape)
  np.testing.assert_allclose(found["plain"]["psnr"], image.psnr(x, y).mean(1))
  np.testing.assert_allclose(found["plain"]["ssim"], image.ssim(x, y).mean(1))
  mse = np.square(x - y).mean((1, 2, 3, 4))
  np.testing.assert_allclose(found["mcvd"]["psnr"], -10 * np.log10(mse))
  cut = [image.gray_8bit(image.truncated(a)).astype(float) for a in (x, y)]
  expected = image.ssim(*cut, data_range=255.0).mean(1)
  np.testing.assert_allclose(found["mcvd"]["ssim"], expected)
  expected = image.ssim(x, y, window="uniform", data_range=2.0).mean(1)
  np.testing.assert_allclose(found["fdm"]["ssim"], expected)
  expected = image.ssim(image.gray(x), image.gray(y)).mean(1)
  np.testing.assert_allclose(found["magvit"]["ssim"], expected)
  # No two rules agree on both.
  pairs = {(m["psnr"][0], m["ssim"][0]) for m in found.values()}
  assert len(pairs) == len(found)
  # The error of a clip that gets worse: pooled is less than the mean of frames.
  assert (np.array(found["mcvd"]["psnr"]) < found["plain"]["psnr"]).all()


def test_gray_frames_and_frames_that_are_met_exactly():
  truth = noise(2, 16, 16, 1)
  other = truth.copy()
  other[1] = truth[1] ^ 16
  members = np.stack([truth, other])
  for rule in image_rules.RULES.values():
    found = images_protocol.measure(members, truth, rule)
    assert found["mse"][0] == 0 and not np.isfinite(found["psnr"][0])
    assert np.isfinite(found["psnr"][1]) and found["ssim"][0] == pytest.approx(1)


class Lpips:
  """Stands for the network: distances are those of the means."""

  net, min_size = "alexnet", 31

  def __call__(self, frames, truth):
    Lpips.size = frames.shape[1]
    return np.abs(frames.mean((1, 2, 3)) - truth.mean((1, 2, 3)))


def test_lpips_of_small_frames_is_of_resized_ones_or_refused(clip):
  found = images_protocol.measure(*clip, image_rules.RULES["mcvd"], Lpips())
  assert Lpips.size == 128 and len(found["lpips"]) == 4
  with pytest.raises(UserError, match="31 pixels or more, found 16 x 16"):
    images_protocol.measure(*clip, image_rules.RULES["plain"], Lpips())


def test_clips_that_a_member_meets_exactly_have_no_psnr(run, tmp_path):
  data = sampling.load(run).info["config"]["data"]
  source = sources.load(data["name"], data["data_dir"], "test")
  truth = np.stack([source.read(video, np.arange(4)) for video in range(3)])
  exact = truth ^ 32
  exact[0] = truth[0]
  given = {"data": data["name"], "split": "test", "videos": [0, 1, 2]}
  folders = []
  for seed, videos in enumerate((truth ^ 64, exact)):
    folders.append(str(tmp_path / str(seed)))
    places.write_samples(
      tmp_path / str(seed), videos, (0,), load_config(data=data), given=given, seed=seed
    )

  def images(out, num_clips):
    asked = {"samples": tuple(folders), "num_clips": num_clips}
    return protocol.evaluate(protocols.build("images", asked), tmp_path / out).result

  measures = images("out", 3)["measures"]
  psnr = [-20 * np.log10(level / 255) for level in (64, 32)]
  assert measures["psnr"]["mean"] == pytest.approx(np.mean(psnr))
  assert measures["psnr"]["best"]["mean"] == pytest.approx(psnr[1])
  assert (measures["psnr"]["left_out"], measures["mse"]["left_out"]) == (1, 0)
  text = (tmp_path / "out" / "table.txt").read_text()
  assert "PSNR (dB): without 1 of 3 clips, of which a member is exact" in text
  alone = images("alone", 1)["measures"]
  assert np.isnan(alone["psnr"]["mean"]) and alone["ssim"]["best"]["mean"] == 1


def test_frames_without_an_ssim_are_said():
  rule = image_rules.RULES["plain"]
  found = images_protocol.measure(noise(2, 3, 8, 8, 1), noise(3, 8, 8, 1), rule)
  assert set(found) == {"mse", "psnr"}
  best = {"mean": 1.0, "half_width": 0.1}
  result = {
    "measures": {key: {"mean": 1.0, "error": 0.1, "best": best, "left_out": 0}
                 for key in found},
    "rule": {"name": "plain", "text": rule.text, "known": rule.known},
    "clips": 1, "members": 2, "context": 0,
  }  # fmt: skip
  text = images_protocol._table(result, "")
  assert text.endswith("no SSIM: its window wants frames of 11 pixels or more")


def test_resized_frames_are_pillows_of_both_kinds():
  gray = noise(2, 8, 8, 1)
  rgb = np.repeat(gray, 3, axis=-1)
  made = image_rules.resized(rgb, 16)
  assert made.shape == (2, 16, 16, 3)
  np.testing.assert_array_equal(image_rules.resized(gray, 16), made[..., :1])


def test_a_run_is_measured_and_goes_on(run, tmp_path, monkeypatch):
  settings = {
    "workdir": str(run), "num_clips": 3, "members": 3, "rule": "mcvd",
    "num_context": 1, "sampling": ("steps=2",),
  }  # fmt: skip
  calls = []
  measure = images_protocol.measure

  def fails_at_last(*args):
    calls.append(1)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return measure(*args)

  monkeypatch.setattr(images_protocol, "measure", fails_at_last)
  built = protocols.build("images", settings)
  with pytest.raises(KeyboardInterrupt):
    protocol.evaluate(built, tmp_path / "out")
  found = protocol.evaluate(built, tmp_path / "out").result
  assert len(calls) == 4  # Two clips were kept.
  psnr = found["measures"]["psnr"]
  assert psnr["best"]["mean"] > psnr["mean"] and found["rule"]["name"] == "mcvd"
  mse = found["measures"]["mse"]
  assert mse["best"]["mean"] < mse["mean"] and mse["best"]["half_width"] > 0
  assert "best of 3" in (tmp_path / "out" / "table.txt").read_text()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"rule": "mcdv"}, "unknown `rule` 'mcdv'.*mcvd"),
    ({"lpips": "squeeze"}, "expected alexnet or vgg16"),
    ({}, "expected `workdir=RUN` or `samples=DIR`"),
  ],
)
def test_bad_settings(settings, message, tmp_path):
  with pytest.raises(UserError, match=message):
    protocol.evaluate(protocols.build("images", settings), tmp_path / "out")
