"""Whole runs: resume, refuse, warm start, export, stop; in one process."""

import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest

from tests import helpers
from vdm_jax import experiment, run_data, sampling, sharding
from vdm_jax.data import records
from vdm_jax.data.builders import video_folder
from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint, exports, workdirs
from vdm_jax.training import optimizer


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Where the tiny data set is built once for all tests here."""
  return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def config(data_dir):
  def make(**sections):
    config = helpers.load_config(
      data={"data_dir": data_dir},
      mesh={"data": 8, "fsdp": 1},
      train={"num_steps": 6, "eval_every": 3, "sample_every": 0, "num_samples": 0},
    )
    for section, values in sections.items():
      config[section] = {**config[section], **values}
    return config

  return make


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
  """A run that was never interrupted."""
  workdir = str(tmp_path_factory.mktemp("runs") / "straight")
  result = experiment.train(config(), workdir)
  assert result.reason == "steps"
  return workdir, jax.device_get(result.state)


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_resumed_run_ends_bit_equal(config, finished, tmp_path):
  workdir = str(tmp_path / "run")
  for steps in (3, 6):  # 3 is between two checkpoints' steps.
    result = experiment.train(config(train={"num_steps": steps}), workdir)
  assert_equal(jax.device_get(result.state), finished[1])
  straight = workdirs.read_metrics(finished[0])
  resumed = workdirs.read_metrics(workdir)
  assert [line["step"] for line in resumed] == [line["step"] for line in straight]
  assert [line["loss"] for line in resumed] == [line["loss"] for line in straight]


@pytest.mark.parametrize(
  ("sections", "message"),
  [
    ({"sampling": {"sampler": "dimm"}}, "Did you mean 'ddim'"),
    ({"plan": {"name": "nope"}}, "plan 'nope'"),
  ],
)
def test_a_run_that_could_not_sample_does_not_train(
  config, tmp_path, sections, message
):
  with pytest.raises(UserError, match=message):
    experiment.train(config(train={"num_samples": 1}, **sections), str(tmp_path / "r"))


def test_an_unusable_workdir_is_named_before_anything_is_built(config, tmp_path):
  file = tmp_path / "file"
  file.touch()
  data = tmp_path / "data"
  message = rf"workdir={file}/run`: expected a folder that can.*{file} is no folder"
  with pytest.raises(UserError, match=message):
    experiment.train(config(data={"data_dir": str(data)}), str(file / "run"))
  assert not data.exists()


@pytest.mark.integration
def test_two_runs_at_once_in_one_workdir_are_refused(config, tmp_path):
  workdir = str(tmp_path / "run")
  with workdirs.locked(workdir):
    message = rf"another run trains here \(process {os.getpid()} on "
    with pytest.raises(UserError, match=message):
      experiment.train(config(train={"num_steps": 1}), workdir)
  # One that was killed holds it no longer.
  hold = (
    "import sys, time; from vdm_jax.storage import workdirs\n"
    "with workdirs.locked(sys.argv[1]): print('held', flush=True); time.sleep(600)"
  )
  other = subprocess.Popen(
    [sys.executable, "-c", hold, workdir], stdout=subprocess.PIPE, text=True
  )
  assert other.stdout.readline() == "held\n"
  with (
    pytest.raises(UserError, match="another run trains here"),
    workdirs.locked(workdir),
  ):
    pass
  other.kill()
  other.wait()
  assert experiment.train(config(train={"num_steps": 1}), workdir).reason == "steps"


@pytest.mark.integration
def test_a_data_set_without_validation_trains_without(
  config, data_dir, tmp_path, capsys
):
  for film in range(2):
    for frame in range(6):
      path = tmp_path / "films" / f"film_{film}" / f"{frame}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(np.full((12, 12), 40 * frame, np.uint8)).save(path)
  options = {"image_size": "12", "channels": 1, "validation": 0.0, "test": 0.0}
  films = video_folder.VideoFolderConfig(
    name="all_train", path=str(tmp_path / "films"), **options
  )
  records.build(video_folder.VideoFolder, films, data_dir)
  result = experiment.train(
    config(
      data={"name": "video_folder/all_train"},
      model={"num_labels": 0},
      train={"num_steps": 1, "eval_batches": 1},
    ),
    str(tmp_path / "run"),
  )
  assert result.reason == "steps"
  assert "no validation: video_folder/all_train" in capsys.readouterr().out


@pytest.mark.integration
def test_a_run_killed_after_its_checkpoint_repeats_the_lost_steps(
  config, finished, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(finished[0], workdir)
  # As after a kill -9: steps 5 and 6 were logged, their checkpoints never finished.
  for step in (4, 6):
    folder = workdir / "checkpoints" / str(step)
    if step == 6 and folder.exists():
      folder.rename(folder.with_name("6.orbax-checkpoint-tmp-99"))
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 7, "loss": 0.')
  result = experiment.train(config(), str(workdir))
  assert_equal(jax.device_get(result.state), finished[1])
  steps = [line["step"] for line in workdirs.read_metrics(str(workdir))]
  assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.integration
def test_resume_on_another_mesh_goes_on_with_the_same_losses(
  config, finished, tmp_path
):
  workdir = str(tmp_path / "run")
  experiment.train(config(train={"num_steps": 4}), workdir)
  result = experiment.train(
    config(mesh={"data": 2, "fsdp": 4}, train={"accumulate": 1}), workdir
  )
  for a, b in zip(
    jax.tree.leaves(result.state.params),
    jax.tree.leaves(finished[1].params),
    strict=True,
  ):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_the_log_is_complete_and_validation_has_its_own_names(finished):
  lines = workdirs.read_metrics(finished[0])
  assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
  assert all(np.isfinite(line["loss"]) for line in lines)
  assert [line["step"] for line in lines if "validation_loss" in line] == [3, 6]
  assert "grad_norm" in lines[0] and lines[0]["videos_per_second"] > 0
  assert all(line["learning_rate"] > 0 for line in lines)
  status = workdirs.status(finished[0])
  assert status["checkpoints"] == [2, 4, 6]
  assert status["last_logged"]["step"] == 6
  assert status["best_checkpoint"] in (3, 6)
  best = min(
    (line["validation_loss"], line["step"])
    for line in lines
    if "validation_loss" in line
  )
  assert best[1] == status["best_checkpoint"]


def test_another_config_is_refused_with_its_differing_keys(config, finished):
  other = config(model={"channels": 16}, optimizer={"learning_rate": 1.0})
  with pytest.raises(UserError) as error:
    experiment.train(other, finished[0])
  assert "model.channels: 8 there, 16 here" in str(error.value)
  assert "optimizer.learning_rate" in str(error.value)
  assert "seed" not in str(error.value)


@pytest.mark.parametrize(
  ("field", "neutral", "other"),
  [
    ("model.patch", 1, 2),
    ("model.padding_in_norm", True, False),
    ("optimizer.decay_by", "steps", "time"),
    ("optimizer.decay_rate", 0.9999, 0.5),
    ("train.best_by", "loss", "fvd"),
    ("diffusion.given_noise", 0.0, 0.1),
  ],
)
def test_a_run_that_is_older_than_a_field_resumes(config, field, neutral, other):
  section, name = field.split(".")

  def meta(**fields):
    made = config(**{section: fields})
    if not fields:
      made[section] = {k: v for k, v in made[section].items() if k != name}
    return workdirs.describe(made, "none")

  workdirs.check_same_run(meta(), meta(**{name: neutral}), "run")
  with pytest.raises(UserError, match=f"Differing: {field}: '.absent.' there"):
    workdirs.check_same_run(meta(), meta(**{name: other}), "run")


def test_the_rate_of_a_run_without_a_time_limit_does_not_jump(config):
  old, new = config(), config(train={"max_seconds": 60.0})
  old["train"] = {k: v for k, v in old["train"].items() if k != "max_seconds"}
  assert optimizer.jump(old, new, 3, 0.0) == ""


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(config, tmp_path, seed):
  with pytest.raises(UserError, match=f"^config.seed={seed}: expected a whole number"):
    experiment.train({**config(), "seed": seed}, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_lost_a_file_is_an_error_and_stays(
  config, finished, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(finished[0], workdir)
  state = workdir / "checkpoints" / "6" / "state"
  # The largest file of arrays; others hold what can be done without.
  max((state / "d").iterdir(), key=lambda p: p.stat().st_size).unlink()
  before = sorted(p.name for p in state.rglob("*"))
  with pytest.raises(UserError, match="checkpoints/6: cannot be read"):
    experiment.train(config(train={"num_steps": 8}), str(workdir))
  assert sorted(p.name for p in state.rglob("*")) == before


def test_a_failed_save_keeps_the_last_good_one(tmp_path, monkeypatch):
  checkpoints = checkpoint.Checkpoints(tmp_path)
  state = {"w": np.arange(4.0)}
  checkpoints.save(1, state, {"next": 1}, {"config": {}})
  checkpoints.wait()

  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(checkpoints._latest, "save", full)
  with pytest.raises(UserError, match="No space left.*last good ones stay: \\[1\\]"):
    checkpoints.save(2, state, {"next": 2}, {"config": {}})
  shapes = jax.eval_shape(lambda: {"w": np.zeros(4)})
  restored, data = checkpoint.Checkpoints(tmp_path).restore(shapes)
  np.testing.assert_array_equal(restored["w"], np.arange(4.0))
  assert data == {"next": 1}


@pytest.mark.integration
def test_weights_are_read_onto_the_devices_that_keep_them(
  config, finished, tmp_path, monkeypatch
):
  """No device holds more than its part, even for a moment."""
  monkeypatch.setattr(sharding, "_MIN_SHARDED", 64)
  split = config(mesh={"data": 1, "fsdp": 8}, train={"num_steps": 1})
  run = str(tmp_path / "run")
  experiment.train(split, run)
  placed = []
  restore = checkpoint.Checkpoints.restore

  def spy(self, shapes, where=None, **kwargs):
    placed.append(jax.tree.leaves(where))
    return restore(self, shapes, where, **kwargs)

  monkeypatch.setattr(checkpoint.Checkpoints, "restore", spy)
  model = sampling.load(run)
  experiment.train(split, str(tmp_path / "warm"), init_from=run)
  assert len(placed) == 2
  for where in placed:
    assert all(len(one.device_set) == 8 for one in where)
    assert any("fsdp" in one.spec for one in where)
  for leaf in jax.tree.leaves(model.params):
    parts = 8 if "fsdp" in leaf.sharding.spec else 1
    assert leaf.addressable_shards[0].data.size * parts == leaf.size


@pytest.mark.integration
def test_init_from_takes_what_fits_and_lists_what_does_not(
  config, finished, tmp_path, capsys
):
  wider = config(
    model={"mlp_layers": 3, "num_labels": 10, "embedding_dim": 16},
    train={"num_steps": 1, "checkpoint_every": 1},
  )
  result = experiment.train(wider, str(tmp_path / "new"), init_from=finished[0])
  text = capsys.readouterr().out
  assert "arrays taken" in text
  assert "not there, left at initialisation: backbone/embed_2/bias" in text
  old = finished[1].ema["0.9"]["backbone"]["stem"]["kernel"]
  new = jax.device_get(result.state.params["backbone"]["stem"]["kernel"])
  # One step of Adam at warm-up moves a weight by at most the learning rate.
  np.testing.assert_allclose(new, old, atol=2e-3)
  assert not np.array_equal(new, old)


def test_an_export_samples_like_the_run(config, finished, tmp_path):
  out = tmp_path / "slim"
  exports.folder(finished[0], str(out))
  run, slim = sampling.load(finished[0]), sampling.load(str(out))
  assert_equal(run.params, slim.params)
  assert slim.info["step"] == 6
  size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
  whole = sum(
    p.stat().st_size
    for p in (helpers.pathlib.Path(finished[0]) / "checkpoints" / "6").rglob("*")
    if p.is_file()
  )
  assert size < whole / 2
  with pytest.raises(UserError, match="not empty"):
    exports.folder(finished[0], str(out))


@pytest.mark.integration
def test_sigterm_saves_and_a_later_run_goes_on(config, finished, tmp_path, monkeypatch):
  workdir = str(tmp_path / "run")
  from vdm_jax.training import loop

  account = loop._Loop.account
  killed = []

  def kill_once(self, step):
    account(self, step)
    if step == 3 and not killed:
      killed.append(step)
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(loop._Loop, "account", kill_once)
  result = experiment.train(config(), workdir)
  assert result.reason == "signal"
  stopped = int(result.state.step)
  assert 3 <= stopped < 6
  assert stopped in workdirs.status(workdir)["checkpoints"]
  assert workdirs.read_metrics(workdir)[-1]["step"] == stopped
  result = experiment.train(config(), workdir)
  assert_equal(jax.device_get(result.state), finished[1])


@pytest.mark.integration
def test_the_clock_stops_a_run_and_the_last_step_is_logged(config, tmp_path):
  workdir = str(tmp_path / "run")
  limits = {"num_steps": 10_000, "max_seconds": 0.5, "log_every": 1000}
  result = experiment.train(config(train={**limits, "eval_every": 0}), workdir)
  assert result.reason == "time"
  lines = workdirs.read_metrics(workdir)
  assert [line["step"] for line in lines] == [int(result.state.step)]


@pytest.mark.integration
def test_the_clock_goes_on_where_a_run_was(config, tmp_path):
  workdir = str(tmp_path / "run")
  limits = {"num_steps": 10_000, "max_seconds": 0.5, "eval_every": 0}
  annealed = {"decay": "cosine", "decay_by": "time"}
  first = experiment.train(config(train=limits, optimizer=annealed), workdir)
  meta = checkpoint.Checkpoints(workdir, read_only=True).meta()
  assert meta["seconds"] >= 0.5
  again = experiment.train(config(train=limits, optimizer=annealed), workdir)
  assert again.reason == "time"
  assert int(again.state.step) == int(first.state.step)
  # Twice as long in all: half of it is over.
  more = {**limits, "max_seconds": 2 * meta["seconds"] + 0.5}
  longer = experiment.train(config(train=more, optimizer=annealed), workdir)
  assert int(longer.state.step) > int(first.state.step)
  meta = checkpoint.Checkpoints(workdir, read_only=True).meta()
  assert meta["seconds"] >= more["max_seconds"]


def test_a_rate_that_falls_with_the_clock_needs_a_clock(config, tmp_path):
  annealed = {"decay": "cosine", "decay_by": "time"}
  with pytest.raises(UserError, match="decay_by: 'time' needs.*max_seconds"):
    experiment.train(config(optimizer=annealed), str(tmp_path / "run"))


@pytest.mark.integration
def test_too_many_bad_steps_in_a_row_stop_the_run(config, tmp_path):
  workdir = str(tmp_path / "run")
  diverging = config(
    optimizer={"learning_rate": 1e30, "clip_norm": 0.0, "warmup_steps": 0},
    train={"num_steps": 50, "max_bad_steps": 3, "eval_every": 0},
  )
  with pytest.raises(UserError, match="3 steps in a row.*learning_rate"):
    experiment.train(diverging, workdir)


@pytest.mark.integration
def test_samples_are_made_while_training(config, tmp_path):
  workdir = tmp_path / "run"
  experiment.train(
    config(
      train={"num_steps": 2, "sample_every": 1, "num_samples": 2, "eval_every": 0}
    ),
    str(workdir),
  )
  names = sorted(p.name for p in (workdir / "samples").iterdir())
  assert names == [
    "step_0000001.gif", "step_0000001.png", "step_0000002.gif", "step_0000002.png",
  ]  # fmt: skip
  assert list((workdir / "tensorboard").iterdir())
  described = json.loads((workdir / "config.json").read_text())
  assert described["config"]["system"] == "vdm"


def test_data_that_does_not_fit_is_named(config, tmp_path):
  with pytest.raises(UserError, match="frame_shape: \\(24, 24, 1\\), but frames of"):
    experiment.train(
      config(data={"frame_shape": (24, 24, 1)}, model={"attention_resolutions": (12,)}),
      str(tmp_path / "a"),
    )
  with pytest.raises(UserError, match="num_labels: 7"):
    experiment.train(config(model={"num_labels": 7}), str(tmp_path / "b"))
  with pytest.raises(UserError, match="the task needs videos of 9 frames"):
    experiment.train(config(task={"num_frames": 9}), str(tmp_path / "c"))


@pytest.mark.integration
def test_captions_train_and_steer(config, tmp_path):
  workdir = str(tmp_path / "run")
  experiment.train(
    config(
      data={"text_encoder": "bytes", "max_tokens": 24},
      model={"token_dim": 64, "num_labels": 0},
      train={"num_steps": 2, "eval_every": 0},
    ),
    workdir,
  )
  model = sampling.load(workdir)
  encoder = run_data.text_encoder(model.info)
  # Two steps teach nothing: what is shown is that the words arrive.
  model.set_params(helpers.lively(jax.device_get(model.params), scale=0.1))

  def sample(caption):
    return model.sample(1, tokens=encoder(caption), guidance=1.0, steps=2)

  one, other = sample("the digit 3 moving left"), sample("the digit 8 standing still")
  assert np.abs(one - other).max() > 1e-3
  with pytest.raises(UserError, match="token_dim: 32"):
    wrong = {**model.info["config"]["model"], "token_dim": 32}
    run_data.text_encoder({"config": {**model.info["config"], "model": wrong}})
  with pytest.raises(UserError, match="'bytes': the model was trained with weights"):
    run_data.text_encoder({**model.info, "text_checksum": "another"})
