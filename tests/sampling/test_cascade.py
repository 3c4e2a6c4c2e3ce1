"""Cascades: models that chain, what they make of the videos below, and the command."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests import helpers
from tests.helpers import ROOT, vdm_jax
from vdm_jax import pixels, sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.sampling import cascade, save


def model(size, stride, frames=4, **settings):
  config = helpers.load_config(
    data={"frame_shape": [size, size, 1]},
    task={"name": "unconditional", "num_frames": frames, "stride": stride,
          "flip": False},
    model={"num_labels": 0, "attention_resolutions": []},
    sampling={"steps": 8, "threshold": "none", **settings},
  )  # fmt: skip
  config["task"] = {k: v for k, v in config["task"].items() if k != "num_images"}
  system = systems.build(config)
  params = helpers.lively(jax.jit(system.init)(jax.random.key(0)), scale=0.05)
  info = {"config": config, "step": 0, "ema": "0.9", "workdir": f"{size}x{stride}"}
  return sampling.Model(system, params, info)


@pytest.fixture(scope="module")
def base():
  return model(8, 2)


@pytest.fixture(scope="module")
def videos(base):
  return base.sample(3, seed=1)


def test_a_later_model_puts_frames_in_between(base, videos):
  slow = model(8, 1)
  out = cascade.enlarge(slow, base.system, videos, 1, seed=1)
  assert out.shape == (3, 8, 8, 8, 1)
  np.testing.assert_array_equal(out[:, ::2], videos)
  assert np.abs(out[:, 1] - out[:, 0]).max() > 0.05


def test_the_last_seed_has_later_stages(base, videos):
  out = cascade.enlarge(model(8, 1), base.system, videos, 1, seed=2**32 - 1)
  np.testing.assert_array_equal(out[:, ::2], videos)


def test_a_larger_model_makes_videos_that_average_to_those_below(base, videos):
  """Longer and larger at once, window after window, as the paper's 9x128x128."""
  large = model(16, 1, frames=5, steps=16)
  out = cascade.enlarge(large, base.system, videos, 1, seed=1)
  assert out.shape == (3, 8, 16, 16, 1)
  small = out.reshape(3, 8, 8, 2, 8, 2, 1).mean((3, 5))
  error = np.abs(small[:, ::2] - videos).mean()
  other = np.abs(small[:, ::2] - videos[::-1]).mean()
  assert error < 0.3 * other
  # The videos of a call do not depend on how many there are.
  alone = cascade.enlarge(large, base.system, videos[:1], 1, seed=1)
  np.testing.assert_allclose(alone, out[:1], atol=1e-3)


@pytest.mark.parametrize(
  ("above", "message"),
  [
    (dict(size=8, stride=2), "makes nothing longer or larger"),
    (dict(size=8, stride=3), "frameskip 2, then 3"),
    (dict(size=12, stride=2), "8x8x1, then 12x12x1"),
  ],
)
def test_models_that_do_not_chain_are_refused(base, above, message):
  with pytest.raises(UserError, match=message):
    cascade.factors(base.system, model(**above).system)


def test_videos_that_are_too_short_for_the_next_window(base, videos):
  with pytest.raises(UserError, match="1 frames become 2, the next model's window"):
    cascade.enlarge(model(8, 1), base.system, videos[:, :1], 1)


def test_a_cascade_runs_into_a_folder_and_resumes(base, tmp_path, monkeypatch):
  models, out, told = [base, model(8, 1)], tmp_path / "out", []
  args = dict(
    seed=1, later={"steps": 4}, length=4, written=lambda *a: told.append(a[0])
  )
  made = cascade.run(models, 2, out, **args)
  assert told == [f"{out}/stage_0", f"{out}"] and made.shape == (2, 8, 8, 8, 1)
  np.testing.assert_array_equal(save.read(out), made)
  below = save.read(out / "stage_0")
  np.testing.assert_array_equal(below, pixels.to_uint8(base.sample(2, seed=1)))
  np.testing.assert_array_equal(made[:, ::2], below)
  record = save.read_record(out)
  assert record["below"] == "stage_0" and record["settings"]["steps"] == 4
  with pytest.raises(UserError, match="holds samples already"):
    cascade.run(models, 2, out, **args)

  # Stopped between the stages: the first is read, the last sampled again.
  (out / "record.json").unlink()
  with monkeypatch.context() as patch:
    patch.setattr(base, "sample", None)
    np.testing.assert_array_equal(cascade.run(models, 2, out, **args), made)
  (out / "record.json").unlink()
  with pytest.raises(UserError, match="stage_0: made with other settings .seed: 1 th"):
    cascade.run(models, 2, out, **args | {"seed": 2})
  given = np.zeros((1, 8, 8, 1), np.float32)
  with pytest.raises(UserError, match="given: None there, 'arrays "):
    cascade.run(models, 2, out, given=given, **args)


def test_a_cascade_is_checked_before_anything_is_sampled(base, tmp_path, monkeypatch):
  monkeypatch.setattr(base, "sample", None)
  for models, args, message in (
    ([base, model(8, 2)], {}, "makes nothing longer or larger"),
    ([base, model(8, 1)], {"later": {"stepz": 4}}, "Did you mean 'steps'"),
    ([base], {"sampler": "dimm"}, "Did you mean 'ddim'"),
    ([base], {"fps": 0.0}, "`fps=0`: expected more than 0 frames per second"),
    ([base], {"signals": [{"label": 3}]}, "`label`: this model was trained without"),
    ([base], {"signals": [{}, {}]}, "`signals`: expected those of 1 models, found 2"),
  ):
    with pytest.raises(UserError, match=message):
      cascade.run(models, 2, tmp_path / "out", **args)
  assert not (tmp_path / "out").exists()


def planned(plan, **options):
  """A later model of another default plan."""
  slow = model(8, 1)
  system = dataclasses.replace(slow.system, plan=plan, plan_options=options)
  return sampling.Model(system, slow.params, slow.info)


def labelled():
  config = helpers.load_config(
    data={"frame_shape": [8, 8, 1]}, task={"stride": 1},
    model={"attention_resolutions": []},
  )  # fmt: skip
  system = systems.build(config)
  params = jax.jit(system.init)(jax.random.key(0))
  return sampling.Model(system, params, {"config": config, "step": 0})


@pytest.mark.parametrize(
  ("later", "args", "message"),
  [
    (model, {"guidance": 2.0}, "guidance: needs a label or a caption to guide"),
    (model, {"steps": 0}, "steps=0 .*expected >= 1, as this model's time is cont"),
    (model, {"respacing": "ddim4"}, "respacing=ddim4 .*is for discrete schedules"),
    (model, {"percentile": 2.0}, "percentile=2.0 .*expected a fraction above 0"),
    (functools.partial(planned, "autoreg"), {}, "expected the first frames of the vid"),
    (functools.partial(planned, "autoregg"), {}, "Did you mean 'autoreg'"),
  ],
)
def test_what_a_later_model_cannot_do_is_said_before_the_first_samples(
  base, tmp_path, monkeypatch, later, args, message
):
  monkeypatch.setattr(base, "sample", None)
  models = [base, later(8, 1) if later is model else later()]
  with pytest.raises(UserError, match=f"^cascade, stage 1: .*{message}"):
    cascade.run(models, 2, tmp_path / "out", later=args)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("label", "message"),
  [(10, "label=10: expected 0 to 9"), ([1, 2, 3], "one for each of 2 videos, found")],
)
def test_a_label_that_a_later_model_does_not_know(
  base, tmp_path, monkeypatch, label, message
):
  monkeypatch.setattr(base, "sample", None)
  signals = [{}, {"label": label}]
  with pytest.raises(UserError, match=f"^cascade, stage 1: .*{message}"):
    cascade.run([base, labelled()], 2, tmp_path / "out", signals=signals)
  assert not (tmp_path / "out").exists()


@pytest.mark.integration
def test_the_command_samples_a_cascade_and_resumes_it(tmp_path):
  def train(name, *flags):
    vdm_jax(
      "train", f"--config={ROOT / 'configs' / 'debug.py'}", f"--workdir={name}",
      "--config.train.num_steps=1", "--config.train.num_samples=0",
      "--config.sampling.steps=2", "--cpu_devices=1", *flags,
      cwd=tmp_path, data_dir=tmp_path / "data",
    )  # fmt: skip

  train("large")
  train("small", "--config.data.pool=2", "--config.data.frame_shape=(6, 6, 1)",
        "--config.task.stride=2", "--config.task.num_frames=2",
        "--config.model.attention_resolutions=()")  # fmt: skip

  def sample(*flags, **kwargs):
    return vdm_jax(
      "sample", "--workdir=small", "--then=large", "--num_videos=2", "--label=3",
      "--seed=4", "--length=3", "--cpu_devices=1", *flags,
      cwd=tmp_path, data_dir=tmp_path / "data", **kwargs,
    )  # fmt: skip

  done = sample("--out=films")
  assert "films/stage_0/sheet.gif" in done.stdout and "films/sheet.gif" in done.stdout
  first, last = (save.read(tmp_path / p) for p in ("films/stage_0", "films"))
  assert first.shape == (2, 3, 6, 6, 1) and last.shape == (2, 6, 12, 12, 1)
  record = save.read_record(tmp_path / "films")
  assert record["below"] == "stage_0" and record["label"] == [3]
  # Stopped between the stages: the first is read, the last sampled again.
  for name in ("record.json", "videos.npz"):
    (tmp_path / "films" / name).unlink()
  again = sample("--out=films")
  assert "stage_0" not in again.stdout
  np.testing.assert_array_equal(save.read(tmp_path / "films"), last)
  (tmp_path / "films" / "record.json").unlink()
  other = sample("--out=films", "--steps=3", check=False)
  assert other.returncode == 2 and "settings.steps: 2 there, 3 here" in other.stderr
  bad = sample("--out=x", "--then=small", check=False)
  assert bad.returncode == 2 and "cascade: frameskip 1, then 2" in bad.stderr
