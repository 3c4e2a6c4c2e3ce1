"""Protocol `fvd`: sources, windows, presets, what is kept and what is refused."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from vdm_jax import sampling
from vdm_jax.data import video
from vdm_jax.errors import UserError
from vdm_jax.evaluation import (
  clip_sources,
  distances,
  fvd_protocol,
  presets,
  protocol,
  protocols,
)
from vdm_jax.metrics import features, frechet, kernel, weights
from vdm_jax.pixels import to_uint8

DIMENSIONS = 6


class Fake:
  """Stands for a network: a feature is made of a clip's means."""

  calls = 0

  def __init__(self, weights, **settings):
    self.settings = {**settings, "weights": weights}

  def describe(self):
    return {"network": "i3d", **self.settings}

  def __call__(self, clips):
    found = []
    for clip in clips:
      Fake.calls += 1
      x = features.in_rgb(clip).astype(np.float64)
      parts = [x.mean(), x[0].mean(), x[-1].mean(), len(x), x.std(), x[..., 0].std()]
      found.append(np.array(parts, np.float32))
    return np.stack(found)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
  monkeypatch.setattr(fvd_protocol.features, "Extractor", Fake)
  monkeypatch.setattr(weights, "load", lambda name: name)
  Fake.calls = 0


def films(folder, count, frames=18, seed=0, brightness=1.0, fps=8):
  folder.mkdir()
  rng = np.random.default_rng(seed)
  for number in range(count):
    pixels = brightness * rng.integers(0, 256, (frames, 8, 8, 3)) * rng.uniform(0.5, 1)
    video.write_gif(folder / f"{number:03d}.gif", pixels.astype(np.uint8), fps=fps)
  return str(folder)


def fvd(tmp_path, out="out", **settings):
  built = protocols.build("fvd", settings)
  return protocol.evaluate(built, tmp_path / out).result


@pytest.fixture
def pair(tmp_path):
  a = films(tmp_path / "a", 12)
  return a, films(tmp_path / "b", 12, seed=1, brightness=0.6)


def test_two_folders_of_films(tmp_path, pair):
  a, b = pair
  result = fvd(tmp_path, a=a, b=b)
  assert result["fvd"]["value"] > 0 and result["fvd"]["error"] > 0
  assert result["n_a"] == result["n_b"] == 12
  assert result["preset"]["name"] == "tfhub" and not result["departs"]
  same = fvd(tmp_path, out="same", a=a, b=a)
  assert abs(same["fvd"]["value"]) < 1e-6 < result["fvd"]["value"]
  text = (tmp_path / "out" / "table.txt").read_text()
  assert "FVD" in text and "KVD" in text and "tfhub" in text
  written = json.loads((tmp_path / "out" / "results.json").read_text())
  assert written["a"][0]["kind"] == "videos" and written["used"]["num_frames"] == 16


def test_features_are_read_again_for_fewer_videos_and_made_for_more(tmp_path, pair):
  a, b = pair
  shared = {"a": a, "b": b, "features": str(tmp_path / "features")}
  few = fvd(tmp_path, out="few", num_a=5, num_b=5, **shared)
  assert Fake.calls == 10
  fvd(tmp_path, out="all", **shared)
  made = Fake.calls
  again = fvd(tmp_path, out="again", num_a=5, num_b=5, **shared)
  assert Fake.calls == made and again["fvd"] == few["fvd"] and again["n_a"] == 5


def test_several_samples_of_each_video_are_measured_together_and_one_by_one(tmp_path):
  parts = [films(tmp_path / f"a{i}", 6, seed=i) for i in range(3)]
  b = films(tmp_path / "b", 6, seed=7, brightness=0.6)
  whole = fvd(tmp_path, a=tuple(parts), b=b)
  each = [
    fvd(tmp_path, out=f"o{i}", a=a, b=b)["fvd"]["value"] for i, a in enumerate(parts)
  ]
  assert (whole["n_a"], whole["n_b"]) == (18, 6)
  np.testing.assert_allclose(whole["fvd_trajectories"]["each"], each)
  assert whole["fvd_trajectories"]["value"] == pytest.approx(np.mean(each))
  assert whole["fvd"]["value"] < np.mean(each)  # The bias falls with the number.
  assert "mean of one sample a video" in (tmp_path / "out" / "table.txt").read_text()
  with pytest.raises(UserError, match="the same videos twice"):
    fvd(tmp_path, out="twice", a=(parts[0], parts[0]), b=b)


def test_features_are_kept_and_a_stopped_job_goes_on(tmp_path, pair, monkeypatch):
  a, b = pair
  monkeypatch.setattr("vdm_jax.evaluation.feature_store._CLIPS", 5)
  kept = str(tmp_path / "kept")
  original, calls = Fake.__call__, []

  def interrupted(self, clips):
    calls.append(1)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return original(self, clips)

  monkeypatch.setattr(Fake, "__call__", interrupted)
  with pytest.raises(KeyboardInterrupt):
    fvd(tmp_path, a=a, b=b, features=kept)
  monkeypatch.setattr(Fake, "__call__", original)
  assert Fake.calls == 10
  result = fvd(tmp_path, a=a, b=b, features=kept)
  assert Fake.calls == 24
  again = fvd(tmp_path, out="again", a=a, b=b, features=kept)
  assert Fake.calls == 24 and again["fvd"] == result["fvd"]
  # Another window is another feature.
  fvd(tmp_path, out="other", a=a, b=b, features=kept, num_frames=10)
  assert Fake.calls == 48


def test_windows(tmp_path):
  a = films(tmp_path / "a", 4, frames=18)
  b = films(tmp_path / "b", 4, frames=20, seed=1)
  with pytest.raises(UserError, match="videos of 18 and of 20 frames; `num_frames=N`"):
    fvd(tmp_path, a=a, b=b, num_frames=-1)
  with pytest.raises(UserError, match="video 0 has 18 frames, expected 19 or more"):
    fvd(tmp_path, a=a, b=b, num_frames=19)
  first = fvd(tmp_path, out="first", a=a, b=b)["fvd"]["value"]
  drawn = fvd(tmp_path, out="random", a=a, b=b, window="random")["fvd"]["value"]
  assert first != drawn
  with pytest.raises(UserError, match="I3D wants 9 or more"):
    fvd(tmp_path, a=a, b=b, num_frames=8)
  cut = fvd(
    tmp_path, out="cut", a=a, b=b, num_frames=15, include_conditioning="no",
    num_context=2,
  )  # fmt: skip
  assert cut["used"]["include_conditioning"] is False
  with pytest.raises(UserError, match="after the 5 given ones, expected 15"):
    fvd(
      tmp_path, a=a, b=b, num_frames=15, include_conditioning="no", num_context=5
    )  # fmt: skip


def test_a_preset_that_the_data_do_not_fill_says_so(tmp_path, pair):
  a, b = pair
  result = fvd(tmp_path, a=a, b=b, preset="vdm-bair", resize="half_pixel")
  assert result["departs"] == [
    "resize half_pixel instead of tf1_legacy",
    "12 videos in a, the preset wants 25600",
    "12 videos in b, the preset wants 256",
  ]
  text = (tmp_path / "out" / "table.txt").read_text()
  assert text.count("vdm-bair (departs)") == 3
  assert "66.92" in text


def test_a_preset_of_longer_videos_takes_the_frames_that_there_are(tmp_path, pair):
  a, b = pair
  result = fvd(tmp_path, a=a, b=b, preset="mcvd-kth")
  assert result["used"]["num_frames"] == 18
  assert f"18 frames, all of {a}, the preset wants 30" in result["departs"]
  short = fvd(tmp_path, out="given", a=a, b=b, preset="vdm-bair", num_context=5)
  assert short["used"]["num_frames"] == 13  # Given frames do not count in this one.
  with pytest.raises(UserError, match="expected 19 or more"):  # Asked for: an error.
    fvd(tmp_path, out="asked", a=a, b=b, preset="mcvd-kth", num_frames=19)


def test_features_of_the_users_own(tmp_path):
  rng = np.random.default_rng(0)
  x, y = rng.standard_normal((40, 5)), rng.standard_normal((30, 5)) + 0.5
  np.savez(tmp_path / "x.npz", features=x)
  np.savez(tmp_path / "y.npz", features=y)
  result = fvd(tmp_path, a=str(tmp_path / "x.npz"), b=str(tmp_path / "y.npz"))
  assert result["fvd"]["value"] == pytest.approx(frechet.distance_of_features(x, y))
  assert result["kvd"]["value"] == pytest.approx(kernel.distance(x, y))
  assert result["jedi_mmd"]["value"] == pytest.approx(kernel.jedi(x, y))
  assert not result["warnings"] and result["fvd_infinity"]["error"] > 0
  text = (tmp_path / "out" / "table.txt").read_text()
  assert "tfhub" not in text  # No part of which was used.
  part = fvd(
    tmp_path, out="part", a=str(tmp_path / "x.npz"), b=str(tmp_path / "y.npz"), num_a=25
  )
  assert part["fvd"]["value"] == pytest.approx(frechet.distance_of_features(x[:25], y))
  assert (part["n_a"], part["n_b"]) == (25, 30)
  np.savez(tmp_path / "z.npz", features=y[:4])
  few = fvd(tmp_path, out="few", a=str(tmp_path / "x.npz"), b=str(tmp_path / "z.npz"))
  assert "4 videos: FVD at infinitely many wants 20" in few["warnings"][0]
  assert "4 videos, 5 dimensions" in few["warnings"][1]
  np.savez(tmp_path / "w.npz", features=rng.standard_normal((9, 3)))
  with pytest.raises(UserError, match="features of 5 and 3 dimensions"):
    fvd(tmp_path, out="w", a=str(tmp_path / "x.npz"), b=str(tmp_path / "w.npz"))
  np.savez(tmp_path / "v.npz", other=x)
  with pytest.raises(
    UserError, match=r"expected an array 'features', found \['other'\]"
  ):
    fvd(tmp_path, out="v", a=str(tmp_path / "v.npz"), b=str(tmp_path / "x.npz"))
  with pytest.raises(UserError, match="found one of each"):
    fvd(tmp_path, out="f", a=str(tmp_path / "x.npz"), b=films(tmp_path / "f", 2))


@pytest.mark.parametrize(
  "features",
  [
    np.array([["a", "b"], ["c", "d"]]),
    np.array([[{}, 1], [2, 3]], object),
    np.zeros((5, 3), complex),
    np.zeros((5, 3, 2)),
    np.full((5, 3), np.nan),
    b"text",
    b"",
  ],
  ids=["strings", "objects", "complex", "3d", "nan", "text", "empty"],
)
def test_features_that_are_none(tmp_path, features):
  path = tmp_path / "x.npz"
  if isinstance(features, bytes):
    path.write_bytes(features)
  else:
    np.savez(path, features=features)
  with pytest.raises(UserError, match=r"`a=.*x.npz`: (expected|not an .npz)"):
    fvd(tmp_path, a=str(path), b=str(path))


def test_sources_that_are_none(tmp_path):
  b = films(tmp_path / "b", 2)
  (tmp_path / "empty").mkdir()
  (tmp_path / "file.txt").write_text("x")
  for name, message in (
    ("", "`a`: expected a folder"),
    (str(tmp_path / "empty"), "expected videos"),
    (str(tmp_path / "file.txt"), "expected a folder, found a file"),
    ("no_such_data/8px", "`a=no_such_data/8px`: no such folder, and:"),
    (str(tmp_path / "no.npz"), "no such file"),
  ):
    with pytest.raises(UserError, match=message):
      fvd(tmp_path, a=name, b=b)


def test_settings_that_are_none(tmp_path, pair):
  a, b = pair
  for settings, message in (
    ({"preset": "best"}, "preset"),
    ({"resize": "lanczos"}, "`resize`: expected one of"),
    ({"root": "cube"}, "`root`: expected one of"),
    ({"window": "last"}, "`window`: expected one of first, random"),
    ({"include_conditioning": "maybe"}, "expected yes or no"),
    ({"weights": "c3d"}, "`weights=c3d`: expected those of i3d"),
    ({"network": "c3d", "num_frames": 12}, "C3D wants 16 frames"),
    ({"a": a, "b": a, "num_a": 1}, "expected 2 videos or more of each, found 1"),
  ):
    with pytest.raises(UserError, match=message):
      fvd(tmp_path, **{"a": a, "b": b, **settings})


def test_gray_videos_are_named(tmp_path):
  a, b = tmp_path / "a", tmp_path / "b"
  rng = np.random.default_rng(0)
  for folder in (a, b):
    folder.mkdir()
    videos = rng.integers(0, 256, (4, 16, 8, 8, 1 if folder == a else 3), np.uint8)
    np.savez(folder / "videos.npz", videos=videos)
    (folder / "record.json").write_text("{}")
  result = fvd(tmp_path, a=str(a), b=str(b))
  assert result["notes"] == [f"{a}: gray, repeated to three channels"]
  assert "note: " in (tmp_path / "out" / "table.txt").read_text()


def test_frame_rates(tmp_path, pair, monkeypatch):
  a, b = pair
  opened = fvd_protocol.clip_sources.open_source

  def at_another_rate(name, **settings):
    source = opened(name, **settings)
    return dataclasses.replace(source, fps=10.0) if name == b else source

  monkeypatch.setattr(fvd_protocol.clip_sources, "open_source", at_another_rate)
  with pytest.raises(UserError, match="7 and 10 frames a second: other videos"):
    fvd(tmp_path, a=a, b=b, fps=7.0, num_frames=9)
  found = fvd(tmp_path, a=a, b=b, fps=7.0, num_frames=9, any_fps=True)
  assert found["a"][0]["fps"] == 7.0 and found["n_a"] == 12


def test_films_have_their_own_rate(tmp_path):
  a, b = films(tmp_path / "a", 2, fps=10), films(tmp_path / "b", 2, seed=1, fps=20)
  near = films(tmp_path / "near", 2, seed=2, fps=10.4)
  with pytest.raises(UserError, match="10 and 20 frames a second: .*`fps=RATE`"):
    fvd(tmp_path, a=a, b=b)
  assert fvd(tmp_path, out="any", a=a, b=b, any_fps=True)["b"]["fps"] == 20.0
  assert fvd(tmp_path, out="near", a=a, b=near)["a"][0]["fps"] == 10.0


def test_films_of_two_sizes_are_named(tmp_path):
  a = films(tmp_path / "a", 2)
  pixels = np.random.default_rng(2).integers(0, 256, (18, 12, 8, 3), np.uint8)
  video.write_gif(tmp_path / "a" / "2.gif", pixels, fps=8)
  with pytest.raises(
    UserError, match="video 2 has frames of 12x8, others have 8x8; `size=N`"
  ):
    fvd(tmp_path, a=a, b=a)
  assert fvd(tmp_path, a=a, b=a, size=8)["n_a"] == 3


def test_pictures_of_two_sizes_are_named(tmp_path):
  walk = tmp_path / "a" / "walk"
  walk.mkdir(parents=True)
  for number in range(18):
    height = 12 if number == 9 else 8
    PIL.Image.fromarray(np.zeros((height, 8, 3), np.uint8)).save(walk / f"{number}.png")
  b = films(tmp_path / "b", 2)
  with pytest.raises(UserError, match=r"walk: expected frames of one size, found \(8,"):
    fvd(tmp_path, a=str(tmp_path / "a"), b=b)


def test_whole_films_that_are_too_short_are_named(tmp_path):
  a = films(tmp_path / "a", 2, frames=6)
  with pytest.raises(UserError, match=r"a`: video 0 has 6 frames, I3D wants 9"):
    fvd(tmp_path, a=a, b=a, num_frames=-1)


@pytest.mark.parametrize(
  "settings",
  [
    {"num_a": -3}, {"num_frames": -2}, {"num_context": -1}, {"batch_size": 0},
    {"bn_eps": -1.0}, {"fps": -4.0}, {"fps": float("nan")}, {"size": -4},
    {"seed": -1}, {"inception_splits": 2}, {"ddof": 2},
  ],
  ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_numbers_that_cannot_be_are_named(tmp_path, settings):
  """Before anything is read: neither folder exists."""
  (key,) = settings
  with pytest.raises(UserError, match=f"`{key}`: "):
    fvd(tmp_path, a="nothing", b="nowhere", **settings)


def test_features_that_are_not_finite_are_refused():
  x = np.random.default_rng(0).standard_normal((12, 4))
  y = x.copy()
  y[3:5, 1] = np.nan
  with pytest.raises(UserError, match="`b`: features of 2 of 12 videos are not finite"):
    distances.measure(x, y)


@pytest.mark.parametrize("root", distances.ROOTS)
def test_every_root_divides_covariances_as_asked(root):
  x, y = np.random.default_rng(0).standard_normal((2, 12, 4)) * [[[1]], [[3]]]
  for ddof in (0, 1):
    found = distances.measure(x, y, root=root, ddof=ddof)["fvd"]["value"]
    expected = frechet.distance_of_features(x, y, ddof=ddof)
    assert found == pytest.approx(expected, rel=1e-3)
  assert distances.measure(x, y, root=root) == distances.measure(
    x, y, root=root, ddof=1
  )


def samples_of(folder, given_frames):
  """A folder of samples, eight videos of 18 frames."""
  folder.mkdir()
  videos = np.random.default_rng(0).integers(0, 256, (8, 18, 8, 8, 3), np.uint8)
  np.savez(folder / "videos.npz", videos=videos)
  (folder / "record.json").write_text(json.dumps({"given_frames": given_frames}))
  return str(folder)


@pytest.mark.parametrize(
  "given, context", [([0, 1], 2), ([0, 1, 8, 9], 2), ([17], 0), ([], 0)]
)
def test_given_frames_that_do_not_count_are_the_first_ones(tmp_path, given, context):
  a, b = samples_of(tmp_path / "a", given), films(tmp_path / "b", 8)
  settings = {"a": a, "b": b, "num_frames": 9, "any_fps": True}
  found = fvd(tmp_path, out="whole", **settings)
  assert found["a"][0]["context"] == context
  if len(given) == context:
    fvd(tmp_path, include_conditioning="no", **settings)
    return
  with pytest.raises(UserError, match=f"frames after the first {context} were given"):
    fvd(tmp_path, include_conditioning="no", **settings)


def test_settings_of_other_sources_are_refused(tmp_path):
  a, b = samples_of(tmp_path / "a", []), samples_of(tmp_path / "b", [0])
  for settings, message in (
    ({"size": 4}, "`size`: is for folders of videos; `a` and `b` are of kind samples"),
    ({"fps": 4.0}, "`fps`: is for folders of videos"),
    ({"sampling": ("steps=2",)}, "`sampling`: is for runs"),
  ):
    with pytest.raises(UserError, match=message):
      fvd(tmp_path, a=a, b=b, **settings)
  mixed = fvd(tmp_path, a=films(tmp_path / "c", 8), b=b, size=8)
  assert mixed["n_a"] == 8


def test_a_data_set_and_a_run(tmp_path, run):
  data = "moving_digits/12px_1digit_10frames_8digitpx_64videos"
  settings = {"data_dir": str(tmp_path / "data"), "num_frames": 9, "num_b": 5}
  found = fvd(tmp_path, a=f"{data}:train", b=data, num_a=7, **settings)
  assert found["a"][0]["kind"] == "data" and (found["n_a"], found["n_b"]) == (7, 5)
  with pytest.raises(UserError, match="say how many videos to sample"):
    fvd(tmp_path, out="run", a=run, b=data, **settings)
  with pytest.raises(UserError, match="has 4 frames, expected 9 or more"):
    fvd(tmp_path, out="run", a=run, b=data, num_a=3, **settings)


def test_every_preset_can_be_asked_for():
  for name, preset in presets.PRESETS.items():
    wanted, departs = protocols.build("fvd", {"preset": name})._resolve(preset)
    assert not departs and wanted["num_frames"] >= 9, name
    assert preset.known in ("read", "said", "recalled")
    assert ("recalled" in preset.text) == (preset.known == "recalled"), name


def test_many_videos_have_their_kvd_from_subsets(monkeypatch):
  monkeypatch.setattr(distances, "_KERNEL_MAX", 30)
  x, y = np.random.default_rng(0).standard_normal((2, 60, 4))
  found = distances.measure(x, y)
  expected = kernel.of_subsets(x, y, size=30)
  assert (found["kvd"]["value"], found["kvd"]["error"]) == expected
  assert np.isnan(found["jedi_mmd"]["error"]) and found["fvd"]["error"] > 0


def test_error_is_about_the_spread_over_data_sets():
  """The jackknife's error against the deviation of many independent draws."""
  found = []
  for seed in range(60):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((80, 3)), rng.standard_normal((80, 3)) + 1.0
    found.append(distances.measure(x, y)["fvd"])
  spread = np.std([f["value"] for f in found])
  errors = np.mean([f["error"] for f in found])
  assert 0.6 < errors / spread < 1.6


def test_a_runs_videos_are_what_sampling_makes_of_its_seed(run, monkeypatch):
  monkeypatch.setattr(clip_sources, "_AT_A_TIME", 2)
  options = {"steps": 2}

  def read(seed):
    source = clip_sources.open_source(
      run, argument="a", count=5, seed=seed, options=options
    )
    return np.stack([source.read(number) for number in range(5)])

  made, other = read(0), read(1)
  model = sampling.load(run)
  alone = model.sample(5, seed=0, length=made.shape[1], batch_size=2, **options)
  np.testing.assert_array_equal(made, to_uint8(alone))
  # No video of one seed is a video of another.
  pairs = np.abs(made[:, None].astype(int) - other[None]).max((2, 3, 4, 5))
  assert pairs.min() > 0
