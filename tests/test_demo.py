"""The demo: its steps around a stand-in for the model, and once for real."""

import json
import re
import subprocess
import sys
import types

import jax
import numpy as np
import PIL.Image
import pytest

from vdm_jax import configs, demo
from vdm_jax.demo import digit_clips, digits, steps, timed
from vdm_jax.errors import UserError
from vdm_jax.pixels import to_float
from vdm_jax.storage import workdirs
from vdm_jax.training import loop


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  config = configs.get("debug")
  config.data.name = "moving_digits/12px_1digit_4frames_8digitpx_1000videos"
  config.data.data_dir = str(tmp_path_factory.mktemp("data"))
  config.model.update(dict(channel_mults=(1,), attention_resolutions=()))
  config.train.update(dict(num_steps=10**6, checkpoint_every=0, eval_batches=0))
  config.sampling.update(dict(steps=2, guidance=1.0))
  return json.loads(config.to_json_best_effort())


def run(config, out, **options):
  return demo.run(config, out, num_clips=40, classifier_steps=60, **options)


class Model:
  """Stands in for `sampling.Model`: trained it draws digits, untrained noise."""

  def __init__(self, config):
    cond = types.SimpleNamespace(num_labels=10)
    self.system = types.SimpleNamespace(
      window=4, stride=1, frame_shape=(12, 12, 1), cond=cond, init=self.init
    )
    self.params = {"w": np.ones(3)}
    self.info = {"config": config, "step": 1234, "ema": "0.9", "workdir": "run"}
    self._digits = digits.Rendering(config["data"]["name"], "train")

  def init(self, key):
    return {"w": jax.numpy.zeros(3)}

  def set_params(self, params):
    self.params = params

  def sample(self, num_videos, *, seed, label, batch_size, length=None, **settings):
    assert settings["guidance"] == 1.0
    rng = np.random.default_rng(seed)
    length = length or 4
    if not np.any(self.params["w"]):
      return rng.uniform(-1, 1, (num_videos, length, 12, 12, 1))
    numbers = [rng.choice(np.flatnonzero(self._digits.labels == d)) for d in label]
    still = self._digits.render(np.array(numbers), rng)["image"]
    return to_float(np.repeat(still[:, None], length, axis=1))


def patch(patcher, config):
  def train(config, workdir, init_from):
    assert config["optimizer"]["decay_by"] == "time" and init_from is None
    folder = steps.epath.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"step": step, "loss": 1 / step} for step in range(10, 100, 10)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    (folder / "spent").write_text(str(config["train"]["max_seconds"]))
    workdirs.write_description(workdir, {"config": config})
    state = types.SimpleNamespace(step=1234)
    return loop.Result(state, "time")

  def spent(workdir):
    path = steps.epath.Path(workdir) / "spent"
    return float(path.read_text()) if path.exists() else 0.0

  patcher.setattr(timed.experiment, "train", train)
  patcher.setattr(timed, "trained_seconds", spent)
  patcher.setattr(steps.sampling, "load", lambda workdir: Model(config))


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
  """(folder, results) of a demo whose diffusion model is a stand-in."""
  out = tmp_path_factory.mktemp("demo")
  with pytest.MonkeyPatch.context() as patcher:
    patch(patcher, config)
    return out, run(config, out, seconds=5.0)


def test_leaves_everything(done):
  out, results = done
  assert json.loads((out / "results.json").read_text()) == results
  text = (out / "table.txt").read_text()
  assert text.startswith(digit_clips.table(results)) and "goals:" in text
  assert "longer" in str(sorted(out.iterdir()))
  assert results["model"] == results["sets"][steps.SAMPLED]
  assert steps.SAMPLED not in results["baselines"]
  assert [goal["met"] for goal in results["goals"]].count(True) >= 1
  assert len(list((out / "samples" / "films").glob("*.gif"))) == 40
  with np.load(out / "samples" / "videos.npz") as found:
    assert found["videos"].shape == (40, 4, 12, 12, 1)
  record = json.loads((out / "samples" / "record.json").read_text())
  assert record["label"] == [*range(10)] * 4
  with PIL.Image.open(out / "side_by_side.gif") as film:
    assert film.n_frames >= 2
  with PIL.Image.open(out / "loss.png") as picture:
    assert picture.width > 500


def test_report_stands_alone(done):
  out, _ = done
  page = (out / "report.html").read_text()
  sources = re.findall(r'src="([^"]{0,30})', page)
  assert len(sources) == 3 * 10 + 1  # Videos of every digit in three columns, the loss.
  assert all(source.startswith("data:image/") for source in sources)
  for part in ("Videos", "Numbers", "Loss", "Sample more", "Facts", "vdm-jax sample"):
    assert part in page
  for row in digit_clips.ROWS:
    assert row.title in page
  assert "1,234 steps" in page
  assert 'href="train/report.html"' in page
  assert 'id="chart-loss"' in (out / "train" / "report.html").read_text()


def test_numbers_tell_digits_from_noise(done):
  sets = done[1]["sets"]
  assert list(sets) == [steps.SAMPLED, steps.REAL, steps.TRAINING, steps.UNTRAINED]
  value = {
    name: {k: v["value"] for k, v in list(s.items())[1:]} for name, s in sets.items()
  }
  assert value[steps.REAL]["frechet"] < 0.3 * value[steps.UNTRAINED]["frechet"]
  assert value[steps.SAMPLED]["frechet"] < 0.3 * value[steps.UNTRAINED]["frechet"]
  assert value[steps.SAMPLED]["asked_frames"] > 0.6
  assert value[steps.UNTRAINED]["asked_frames"] < 0.4
  # The stand-in's digits do not move.
  assert value[steps.SAMPLED]["speed"] == 0
  assert (
    value[steps.SAMPLED]["speed_distance"] > 3 * value[steps.REAL]["speed_distance"]
  )


def test_a_slow_machine_gets_by_with_fewer_clips(config):
  model = Model(config)
  assert len(steps._sample(model, config, 100, seconds=0.0, seed=0)) == 40
  assert len(steps._sample(model, config, 60, seconds=60.0, seed=0)) == 60


def test_no_more_training_without_more_time(config, done, monkeypatch):
  def train(config, workdir, init_from):
    raise AssertionError("trains again")

  patch(monkeypatch, config)
  monkeypatch.setattr(timed.experiment, "train", train)
  again = run(config, done[0], seconds=5.0)
  assert again["sets"] == done[1]["sets"]  # Nothing in the demo is left to chance.
  with pytest.raises(AssertionError, match="trains again"):
    run(config, done[0], seconds=5.5)


def test_a_signal_stops_it(config, done, monkeypatch):
  stopped = loop.Result(None, "signal")
  monkeypatch.setattr(timed.experiment, "train", lambda *args, **more: stopped)
  with pytest.raises(timed.Stopped):
    run(config, done[0], seconds=6.0)


def test_refusals(config, tmp_path):
  with pytest.raises(UserError, match="num_clips"):
    demo.run(config, tmp_path, seconds=1, num_clips=30)
  other = {**config, "data": {**config["data"], "name": "video_folder/x"}}
  with pytest.raises(UserError, match="1digit"):
    demo.run(other, tmp_path, seconds=1)


def test_command_tells_a_mistake_in_one_line(checkout, tmp_path):
  command = [sys.executable, "-m", "vdm_jax.cli.main", "demo", f"--out={tmp_path}"]
  command += ["--config.model.num_labels=0"]  # Of the default config.
  found = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
  assert found.returncode == 2, found.stderr
  last = found.stderr.splitlines()[-1]
  assert last.startswith("vdm-jax: error: config.model.num_labels")


@pytest.mark.slow
def test_for_real_and_goes_on_with_more_time(config, tmp_path):
  first = run(config, tmp_path, seconds=1.0)
  assert first["run"]["steps"] >= 1
  spent = first["run"]["train_seconds"]
  more = run(config, tmp_path, seconds=spent + 1.0)
  assert more["run"]["steps"] > first["run"]["steps"]
