"""What examples/ shows runs, and learns."""

import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vdm_jax as vdm
from tests.helpers import lively, random_batch
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.pixels import to_float

pytestmark = pytest.mark.integration

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def run(name, folder, *flags):
  return command([EXAMPLES / name, *flags], folder)


def command(words, folder):
  done = subprocess.run(
    [sys.executable, *words],
    cwd=folder,
    capture_output=True,
    text=True,
    env={
      "PATH": "/usr/bin:/bin",
      "HOME": str(folder),
      "PYTHONPATH": str(EXAMPLES.parent),
      "JAX_PLATFORMS": "cpu",
    },
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


@pytest.mark.slow
def test_vdm_in_150_lines(tmp_path):
  said = run("vdm_in_150_lines.py", tmp_path, "--seconds=40", "--out=digits.gif")
  losses = [float(text) for text in re.findall(r"loss ([\d.]+)", said)]
  assert len(losses) > 1 and losses[-1] < 0.6 * losses[0]
  assert (tmp_path / "digits.gif").stat().st_size > 1000
  lines = (EXAMPLES / "vdm_in_150_lines.py").read_text().splitlines()
  assert len(lines) <= 150


@pytest.fixture(scope="module")
def mcvd():
  """The example, a paper from outside the package."""
  spec = importlib.util.spec_from_file_location("mcvd", EXAMPLES / "mcvd.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def small(mcvd, **changes):
  config = mcvd.get_config()
  config.model.update(dict(channels=16))
  config.update(changes)
  return json.loads(config.to_json_best_effort())


def test_mcvd_is_under_150_lines():
  assert len((EXAMPLES / "mcvd.py").read_text().splitlines()) < 150


def test_mcvd_sees_given_frames_and_no_others(mcvd):
  system = vdm.systems.build(small(mcvd))
  batch = random_batch(system, 2)
  video, frames = jnp.asarray(to_float(batch["video"])), batch["frames"]
  params = lively(system.init(jax.random.key(0)))
  level = system.schedule.sample(jnp.full(2, 0.5))
  shown = frames.replace(
    observed=jnp.zeros((2, 8), bool).at[:, :2].set(True),
    latent=jnp.ones((2, 8), bool).at[:, :2].set(False),
  )

  def output(video, z, frames=shown):
    context = system.encode(params, video, frames, {}).context
    return system.denoiser(params, frames, context)(z, level).x

  z = jax.random.normal(jax.random.key(1), video.shape)
  plain = output(video, z)
  assert plain.shape == video.shape
  # The answer does not leak, and z is not looked at where frames are given ...
  np.testing.assert_array_equal(output(video.at[:, 2:].set(0.0), z), plain)
  np.testing.assert_array_equal(output(video, z.at[:, :2].set(0.0)), plain)
  # ... nor is the other example; but given frames are seen, and so is the rest of z.
  np.testing.assert_allclose(output(video.at[1].set(0.0), z)[0], plain[0], atol=1e-5)
  for changed in (
    output(video.at[:, :2].set(0.0), z),
    output(video, z.at[:, 5].set(0.0)),
  ):
    assert jnp.abs(changed - plain)[:, 2].max() > 1e-3


def test_mcvd_refuses_frames_that_do_not_fit(mcvd):
  config = small(mcvd)
  config["data"]["frame_shape"] = [18, 16, 1]
  with pytest.raises(UserError, match="frame_shape: expected multiples of 4"):
    vdm.systems.build(config)
  del config["model"]["patch"]
  with pytest.raises(UserError, match="^config.model.patch: missing$"):
    vdm.systems.build(config)


def test_mcvd_trains_and_samples(mcvd, tmp_path, monkeypatch):
  """Two steps; then, from another folder, what is between two pairs of frames.

  tests/test_pages.py does so by the commands of the guide.
  """
  config = small(
    mcvd,
    data={
      "name": "moving_digits/16px_1digit_8frames_64videos",
      "data_dir": str(tmp_path / "data"),
    },
    train={"num_steps": 2, "eval_batches": 0, "num_samples": 0},
  )
  vdm.train(config, str(tmp_path / "run"))
  monkeypatch.chdir(tmp_path)
  given = np.full((4, 16, 16, 1), 0.5, np.float32)
  model = vdm.load("run")
  video = model.sample(1, given=given, given_frames=(0, 1, 6, 7), steps=2)[0]
  assert video.shape == (8, 16, 16, 1) and np.isfinite(video).all()
  np.testing.assert_array_equal(video[[0, 1, 6, 7]], given)
  with pytest.raises(UserError, match="consecutive"):
    model.sample(1, length=16, plan="hierarchy-2", steps=2)


@pytest.mark.slow
def test_mcvd_learns_to_predict_and_to_interpolate(tmp_path):
  command(
    ["-m", "vdm_jax", "train", f"--config={EXAMPLES / 'mcvd.py'}", "--workdir=w",
     "--config.train.max_seconds=90", "--config.train.num_samples=0",
     "--config.train.eval_batches=0"], tmp_path,
  )  # fmt: skip
  name = json.loads((tmp_path / "w" / "config.json").read_text())["config"]["data"][
    "name"
  ]
  source = sources.load(name, str(tmp_path / "vdm_jax_data"), "test")
  truth = np.stack([source.read(n, np.arange(8)) for n in range(32)]) / 255.0
  for places, hidden in (("0,1", range(2, 8)), ("0,1,6,7", range(2, 6))):
    command(
      ["-m", "vdm_jax", "sample", "--workdir=w", "--split=test", f"--out={places}",
       f"--given_frames={places}", "--num_videos=32", "--batch_size=32"], tmp_path,
    )  # fmt: skip
    found = np.load(tmp_path / places / "videos.npz")["videos"] / 255.0
    given = [int(place) for place in places.split(",")]
    np.testing.assert_array_equal(found[:, given], truth[:, given])
    error, copied = 0.0, 0.0
    for frame in hidden:
      near = min(given, key=lambda place: abs(place - frame))
      error += np.square(found[:, frame] - truth[:, frame]).mean()
      copied += np.square(truth[:, near] - truth[:, frame]).mean()
    assert error < 0.8 * copied, (places, error, copied)
