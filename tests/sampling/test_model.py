"""Sampling: reproducible, given frames kept, guidance, plans, files."""

import functools
import importlib.util
import json
import re

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import plans, sampling, sharding, systems
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.errors import UserError
from vdm_jax.sampling import save
from vdm_jax.sampling.settings import SamplerSettings


@functools.cache
def model():
  config = helpers.load_config(sampling={"steps": 3})
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  return sampling.Model(system, params, {"config": config, "step": 0})


def test_a_video_depends_on_its_seed_and_number_alone():
  many = model().sample(11, seed=3, label=2, batch_size=8)
  assert many.shape == (11, 4, 12, 12, 1) and np.isfinite(many).all()
  assert np.abs(many).max() <= 1.0
  few = model().sample(3, seed=3, label=2, batch_size=16)
  np.testing.assert_allclose(few, many[:3], atol=1e-3)
  np.testing.assert_array_equal(model().sample(11, seed=3, label=2, batch_size=8), many)
  assert np.abs(many[0] - many[1]).max() > 0.1
  assert np.abs(model().sample(1, seed=4, label=2) - many[:1]).max() > 0.1


def test_every_seed_of_a_key_is_one():
  """Above 2**31, where default integers of JAX end, too; draws take the same ones."""
  last, large = (model().sample(2, seed=seed) for seed in (2**32 - 1, 2**31))
  assert np.abs(last - large).max() > 0.1
  drawn = model().sample(2, draws=[(2**32 - 1, 1), (2**31, 0)])
  np.testing.assert_array_equal(drawn, np.stack([last[1], large[0]]))


def test_one_device_samples_the_same(monkeypatch):
  many = model().sample(3, seed=1, label=5)
  one = sharding.make_mesh(devices=jax.devices()[:1])
  monkeypatch.setattr(sharding, "make_mesh", lambda **kwargs: one)
  alone = sampling.Model(model().system, jax.device_get(model().params), model().info)
  np.testing.assert_allclose(alone.sample(3, seed=1, label=5), many, atol=1e-3)


def test_labels_and_guidance_steer():
  plain = model().sample(2, label=[0, 7])
  np.testing.assert_array_equal(plain[:1], model().sample(2, label=[0, 3])[:1])
  assert np.abs(plain[1] - model().sample(2, label=[0, 3])[1]).max() > 1e-3
  strong = model().sample(2, label=[0, 7], guidance=3.0)
  assert np.abs(plain - strong).max() > 1e-3
  # No label is the label -1, and weight 0 is no guidance.
  np.testing.assert_array_equal(
    model().sample(2), model().sample(2, label=-1, guidance=0.0)
  )


def test_a_configs_guidance_is_for_labels_and_captions():
  info = dict(model().info)
  sampled = {**info["config"]["sampling"], "guidance": 3.0}
  guided = sampling.Model(
    model().system,
    jax.device_get(model().params),
    {**info, "config": {**info["config"], "sampling": sampled}},
  )
  np.testing.assert_array_equal(guided.sample(2), model().sample(2))
  assert guided.settings(False).guidance == 0.0
  assert guided.settings(True).guidance == 3.0
  assert guided.settings(False, guidance=2.0).guidance == 2.0
  np.testing.assert_array_equal(
    guided.sample(2, label=7), model().sample(2, label=7, guidance=3.0)
  )


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_given_frames_come_back_and_matter(weight):
  rng = np.random.default_rng(0)
  given = rng.uniform(-1, 1, (2, 12, 12, 1)).astype(np.float32)
  out = model().sample(
    2, given=given, given_frames=[1, 3], reconstruction_weight=weight
  )
  np.testing.assert_array_equal(out[:, [1, 3]], np.stack([given] * 2))
  other = model().sample(
    2, given=-given, given_frames=[1, 3], reconstruction_weight=weight
  )
  assert np.abs(out[:, [0, 2]] - other[:, [0, 2]]).max() > 1e-3
  if weight:
    plain = model().sample(2, given=given, given_frames=[1, 3])
    assert np.abs(out - plain).max() > 1e-4


def test_a_longer_video_is_extended_block_by_block():
  out = model().sample(2, length=9, plan_options={"overlap": 2}, label=1)
  assert out.shape == (2, 9, 12, 12, 1)
  short = model().sample(2, length=4, label=1)
  np.testing.assert_allclose(out[:, :4], short, atol=1e-3)
  for a in range(4, 8):
    assert np.abs(out[:, a] - out[:, a + 1]).max() > 1e-3


@pytest.mark.parametrize(
  "options",
  [
    {"sampler": "ddim"},
    {"sampler": "ddim", "eta": 1.0},
    {"sampler": "dpmpp_2m"},
    {"sampler": "langevin", "threshold": "dynamic"},
    {"sampler": "ancestral", "gamma": 1.0, "threshold": "none"},
  ],
)
def test_every_sampler_runs_and_differs_from_the_default(options):
  out = model().sample(1, **options)
  assert np.isfinite(out).all()
  assert np.abs(out - model().sample(1)).max() > 1e-3


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"seed": -1}, "`seed=-1`: expected a whole number from 0 to 4294967295"),
    ({"seed": 2**32}, "`seed=4294967296`: expected a whole number"),
    ({"seed": 0.5}, "`seed=0.5`: expected a whole number"),
    ({"draws": [(2**32, 0)]}, "`seed=4294967296`: expected a whole number"),
    ({"label": 10}, "`label=10`: expected 0 to 9"),
    ({"label": [1, 2]}, "`label`: expected one, or one for each of 1 videos"),
    ({"guidance": 2.0}, "`guidance`: needs a label"),
    ({"sampler": "dimm"}, "Did you mean 'ddim'"),
    ({"treshold": "static"}, "Did you mean 'threshold'"),
    ({"threshold": "statc"}, "Did you mean 'static'"),
    ({"length": 3}, "shorter than the model's window of 4"),
    ({"plan": "hierarchy"}, "unknown plan"),
    ({"given_frames": [0]}, "no given clip"),
    ({"given": np.zeros((2, 8, 8, 1))}, "`given`: expected"),
    ({"given": np.zeros((2, 12, 12, 1)), "given_frames": [0]}, "1 places for 2"),
    ({"given": np.zeros((1, 12, 12, 1)), "given_frames": [4]}, "expected 0 to 3"),
    ({"tokens": (np.zeros((1, 4)), np.ones(1))}, "trained without text"),
  ],
)
def test_mistakes_are_named(arguments, message):
  with pytest.raises(UserError, match=message):
    model().sample(1, **arguments)


def test_settings_take_overrides_and_leave_out_none():
  base = helpers.load_config()["sampling"]
  settings = SamplerSettings.from_config(base, steps=7, gamma=None)
  assert (settings.steps, settings.gamma) == (7, base["gamma"])
  with pytest.raises(UserError, match="Did you mean 'steps'"):
    SamplerSettings.from_config({**base, "step": 3})


@pytest.mark.parametrize(
  "name, value, expected",
  [
    ("percentile", 2.0, "a fraction above 0, at most 1"),
    ("percentile", 0.0, "a fraction above 0, at most 1"),
    ("gamma", 1.5, "0 to 1"),
    ("eta", -0.5, "0 to 1"),
    ("langevin_delta", 2.0, "0 to 1"),
    ("guidance", float("nan"), ">= 0"),
    ("resample", 0, ">= 1"),
    ("steps", -1, ">= 0"),
    ("steps", 4.5, "a whole number"),
    ("steps", "many", "a whole number"),
    ("resample", True, "a whole number"),
    ("percentile", "high", "a number"),
    ("restore_given", "no", "True or False"),
    ("respacing", (10, 15), "text"),
  ],
)
def test_a_setting_out_of_range_is_named(name, value, expected):
  message = f"`{name}={value}` (sampling.{name}): expected {expected}"
  with pytest.raises(UserError, match=re.escape(message) + "$"):
    SamplerSettings.from_config({}, **{name: value})


def test_a_model_refuses_steps_that_its_schedule_lacks():
  with pytest.raises(UserError, match="`steps=0` .*this model's time is continuous"):
    model().settings(False, steps=0)
  discrete = DiscreteSchedule.linear(50)
  assert SamplerSettings(steps=0).grid(discrete).logsnr.shape == (51,)
  assert SamplerSettings(respacing=10).grid(discrete).logsnr.shape == (11,)
  with pytest.raises(UserError, match="`steps=51` .*: expected at most the 50 of"):
    SamplerSettings(steps=51).grid(discrete)


def test_saved_samples_are_lossless_and_not_overwritten(tmp_path):
  videos = np.linspace(-1, 1, 3 * 4 * 6 * 6).reshape(3, 4, 6, 6, 1)
  observed = np.array([True, False, False, False])
  save.save(
    tmp_path / "s", videos, {"seed": 1}, captions=list("abc"), observed=observed
  )
  with np.load(tmp_path / "s" / "videos.npz") as found:
    np.testing.assert_array_equal(
      found["videos"], np.rint((videos + 1) * 127.5).astype(np.uint8)
    )
  names = {p.name for p in (tmp_path / "s").iterdir()}
  assert names == {"videos.npz", "sheet.png", "sheet.gif", "films", "record.json"}
  assert len(list((tmp_path / "s" / "films").glob("*.mp4"))) == 3
  assert json.loads((tmp_path / "s" / "record.json").read_text()) == {"seed": 1}
  with pytest.raises(UserError, match="holds samples already"):
    save.save(tmp_path / "s", videos, {})


def test_tiled_videos_keep_every_pixel():
  videos = np.arange(5 * 2 * 3 * 4 * 1, dtype=np.uint8).reshape(5, 2, 3, 4, 1)
  grid = save.tile(videos, gap=1)
  assert grid.shape == (2, 9, 16, 1)
  np.testing.assert_array_equal(grid[:, 1:4, 1:5], videos[0])
  np.testing.assert_array_equal(grid[:, 5:8, 6:10], videos[4])


class Fickle(plans.Listed):
  """Looks at a frame that does not exist, once it sees a video."""

  def next(self, state, video=None):
    frames, state = super().next(state, video) or (None, None)
    if frames is None:
      return None
    if video is not None:
      frames.index[:, 0] = self.length - 1
    return frames, state


def fickle(*, length, given, window):
  """The plan above; for `--plan=FILE:fickle`."""
  return Fickle(length, given, (([0], [1]), ([1], [2, 3])))


def test_stages_are_checked_as_they_are_chosen():
  given = np.zeros((1, 12, 12, 1), np.float32)
  with pytest.raises(UserError, match=r"observes frames \[3\] before they exist"):
    model().sample(1, given=given, length=4, plan=f"{__file__}:fickle")


def test_a_model_split_over_devices_samples_the_same(monkeypatch):
  """Weights that do not fit one chip: `config.mesh.fsdp` of training holds here."""
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 1)  # This network is small.
  config = {**model().info["config"], "mesh": {"data": -1, "fsdp": 2}}
  split = sampling.Model(
    model().system, jax.device_get(model().params), {"config": config, "step": 0}
  )
  shards = [leaf.sharding for leaf in jax.tree.leaves(split.params)]
  assert any("fsdp" in str(shard.spec) for shard in shards)
  np.testing.assert_allclose(
    split.sample(3, seed=1, label=5), model().sample(3, seed=1, label=5), atol=1e-3
  )


def test_methods_for_given_frames():
  given = np.zeros((1, 12, 12, 1), np.float32)
  plain = model().sample(2, given=given)
  for settings, same in (
    ({"method": "replacement", "reconstruction_weight": 9.0}, True),
    ({"method": "reconstruction", "reconstruction_weight": 9.0}, False),
    ({"reconstruction_weight": 9.0}, False),
  ):
    out = model().sample(2, given=given, **settings)
    assert (np.abs(out - plain).max() < 1e-6) == same, settings
  with pytest.raises(UserError, match="wants a `reconstruction_weight` above 0"):
    model().sample(2, given=given, method="reconstruction")
  with pytest.raises(UserError, match="`method` .sampling.method"):
    model().sample(2, given=given, method="magic")
  with pytest.raises(UserError, match="`guidance=-1.0` .sampling.guidance"):
    model().sample(2, label=1, guidance=-1.0)


def test_a_low_resolution_video_guides_the_sampled_one():
  """Averaged to its size, the sample comes near it; other frames are free."""
  rng = np.random.default_rng(0)
  low = rng.uniform(-0.5, 0.5, (3, 2, 6, 6, 1)).astype(np.float32)

  def distance(video):
    small = video[:, [0, 3]].reshape(3, 2, 6, 2, 6, 2, 1).mean((3, 5))
    return np.abs(small - low).mean()

  settings = dict(seed=2, steps=12, threshold="none")
  free = model().sample(3, **settings)
  small = dict(low_res=low, low_res_frames=[0, 3], **settings)
  guided = model().sample(3, **small)
  assert distance(guided) < 0.25 * distance(free)
  np.testing.assert_array_equal(guided[:1], model().sample(
    1, **{**small, "low_res": low[:1]}))  # fmt: skip
  # A given frame stays, and what low resolution says of it is overruled.
  frame = np.ones((1, 12, 12, 1), np.float32)
  both = model().sample(3, given=frame, given_frames=[0], **small)
  np.testing.assert_array_equal(both[:, 0], np.ones((3, 12, 12, 1)))


@pytest.mark.parametrize(
  ("low_res", "frames", "message"),
  [
    (np.zeros((2, 5, 5, 1)), (), "divided by a whole number, found 5x5x1"),
    (np.zeros((2, 6, 4, 1)), (), "divided by a whole number, found 6x4x1"),
    (np.zeros((2, 6, 6, 1)), (0, 4), "0 to 4, the video has 4 frames"),
    (np.zeros((2, 6, 6, 1)), (1,), "1 places for 2 frames"),
    (np.zeros((3, 2, 6, 6, 1)), (), "a video .* or 2 of them"),
    (None, (0,), "there is no low-resolution video"),
  ],
)
def test_a_low_resolution_video_that_does_not_fit_is_refused(low_res, frames, message):
  with pytest.raises(UserError, match=message):
    model().sample(2, low_res=low_res, low_res_frames=frames)


def test_samples_are_kept_without_the_extra_that_encodes_them(
  tmp_path, monkeypatch, capsys
):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    "importlib.util.find_spec", lambda name, *a: None if name == "av" else found(name)
  )
  save.save(tmp_path / "o", np.zeros((2, 3, 8, 8, 1), np.float32), {"seed": 1})
  assert save.read(tmp_path / "o").shape == (2, 3, 8, 8, 1)
  assert [p.name for p in sorted((tmp_path / "o" / "films").iterdir())] == [
    "0000.gif",
    "0001.gif",
  ]
  assert "MP4 files are left out: they need vdm_jax[video]" in capsys.readouterr().err
