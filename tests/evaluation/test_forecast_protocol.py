"""Ensembles of a run and of folders through `vdm-jax eval`'s protocol."""

import json

import numpy as np
import pytest

from tests.evaluation import places
from tests.helpers import load_config, vdm_jax
from vdm_jax import sampling
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import ensembles, forecast_scores, protocol, protocols

NAME = "moving_digits/12px_1digit_4frames_8digitpx_64videos"
OTHER = "moving_digits/16px_1digit_4frames_10digitpx_8videos"


def settings(run, **changed):
  fields = {"workdir": run, "num_clips": 3, "members": 3, "num_context": 2, **changed}
  return protocols.build("forecast", fields)


def test_a_stopped_evaluation_goes_on_with_the_same_numbers(run, tmp_path, monkeypatch):
  whole = protocol.evaluate(settings(run, batch_size=6), tmp_path / "whole").result
  assert whole["clips"] == 3 and whole["lead_times"] == 2 and whole["members"] == 3
  assert set(whole["sets"]) == {"model", "last frame copied", "constant velocity"}
  for found in whole["sets"].values():
    assert set(found) == {key for key in forecast_scores.TITLES if "lpips" not in key}

  calls = []
  sample = sampling.Model.sample

  def interrupted(self, *args, **kwargs):
    calls.append(kwargs["draws"])
    if len(calls) == 2:
      raise KeyboardInterrupt
    return sample(self, *args, **kwargs)

  monkeypatch.setattr(sampling.Model, "sample", interrupted)
  out = tmp_path / "stopped"
  with pytest.raises(KeyboardInterrupt):
    protocol.evaluate(settings(run, batch_size=6), out)
  assert not (out / "results.json").exists()
  with pytest.raises(UserError, match="other settings"):
    protocol.evaluate(settings(run, seed=1, batch_size=6), out)
  protocol.evaluate(settings(run, batch_size=6), out)
  # Two clips and their members at a time; the third one, which is filled up with
  # itself, was under way: the first two were not sampled again.
  two = [(seed, member) for seed in (0, 1) for member in range(3)]
  third = [(2, member) for member in range(3)] * 2
  assert calls == [two, third, third]
  texts = [(tmp_path / name / "results.json").read_text() for name in ("whole", out)]
  assert texts[0] == texts[1]
  for name in ("clip.png", "by_lead.png", "table.txt"):
    assert (out / name).exists()
  with pytest.raises(UserError, match="holds results already"):
    protocol.evaluate(settings(run), out)


def test_clips_that_share_a_batch_are_what_they_are_alone(run):
  together = ensembles.of(settings(run, num_clips=3, batch_size=9))
  alone = ensembles.of(settings(run, num_clips=3, batch_size=3))
  for number in range(3):
    (truth, members), (truth_alone, members_alone) = map(
      lambda job, number=number: job.clip(number), (together, alone)
    )
    np.testing.assert_array_equal(truth, truth_alone)
    # Rounding may differ where programs do, by a step of 8 bits.
    np.testing.assert_allclose(members.astype(int), members_alone, atol=1)
    assert len(np.unique(members, axis=0)) == 3


def test_the_model_is_given_the_context_and_scored_on_the_rest(run, tmp_path):
  found = protocol.evaluate(settings(run, num_clips=1), tmp_path).result
  model = sampling.load(run)
  data = model.info["config"]["data"]
  source = sources.load(NAME, data["data_dir"], "test")
  truth = source.read(0, np.arange(4))
  made = model.sample(
    3, seed=0, given=truth[:2] / 127.5 - 1, given_frames=[0, 1], length=4
  )
  made = np.rint((np.clip(made, -1, 1) + 1) * 127.5).astype(np.uint8)
  expected = forecast_scores.score(made[:, 2:], truth[2:])
  mse = expected.pop("mse")
  expected["psnr_pooled"] = -10 * np.log10(mse)
  for key, values in expected.items():
    if "lpips" in key:  # Nobody asked for it.
      assert np.isnan(values).all() and key not in found["sets"]["model"]
      continue
    np.testing.assert_allclose(
      found["sets"]["model"][key]["by_lead"], values, rtol=1e-6, atol=1e-6
    )
  # One clip has no spread.
  written = json.loads((tmp_path / "results.json").read_text())
  assert written["sets"]["model"]["crps"]["error"] is None


VIDEOS = [2, 4]  # Videos of the test split that samples continue.


def folders_of_samples(run, root):
  """(folders, their videos uint8, truth): two seeds, one given frame."""
  data = sampling.load(run).info["config"]["data"]
  pool = data["pool"] or 1
  source = sources.load(data["name"], data["data_dir"], "test", pool=pool)
  truth = np.stack([source.read(i, np.arange(4)) for i in VIDEOS])
  videos = [np.maximum(truth, level) for level in (20, 60)]
  given = {"data": data["name"], "split": "test", "videos": VIDEOS}
  folders = [root / f"seed{seed}" for seed in range(2)]
  for seed, (folder, made) in enumerate(zip(folders, videos, strict=True)):
    config = load_config(data=data)
    places.write_samples(folder, made, (0,), config, given=given, seed=seed)
  return [str(folder) for folder in folders], videos, truth


def test_folders_are_members(run, tmp_path):
  folders, videos, truth = folders_of_samples(run, tmp_path)
  found = protocols.build("forecast", {"samples": tuple(folders)}).run(tmp_path).result
  assert (found["members"], found["clips"], found["context"]) == (2, 2, 1)
  each = [
    forecast_scores.score(np.stack([made[i, 1:] for made in videos]), truth[i, 1:])[
      "crps"
    ]
    for i in range(2)
  ]
  np.testing.assert_allclose(
    found["sets"]["samples"]["crps"]["by_lead"], np.mean(each, axis=0)
  )
  again = protocols.build("forecast", {"samples": (folders[0],) * 2})
  with pytest.raises(UserError, match="seeds of their own"):
    again.run(tmp_path / "again")
  alone = protocols.build("forecast", {"samples": (folders[0],)})
  with pytest.raises(UserError, match="fair CRPS needs 2 members"):
    alone.run(tmp_path / "alone")


def test_a_run_of_averaged_pixels_is_compared_with_such_frames(pooled_run, tmp_path):
  job = ensembles.of(settings(pooled_run))
  assert job.count == 3 and job.origin["frames"] == 4
  folders, _, truth = folders_of_samples(pooled_run, tmp_path)
  job = ensembles.of(protocols.build("forecast", {"samples": tuple(folders)}))
  np.testing.assert_array_equal(job.clip(1).truth, truth[1])
  # Frames of another data set are taken as they are.
  with pytest.raises(UserError, match=r"frames of .*10digitpx.* are \(16, 16, 1\)"):
    ensembles.of(settings(pooled_run, data=OTHER))
  other = {"samples": tuple(folders), "data": OTHER}
  with pytest.raises(UserError, match=r"frames are \(12, 12, 1\), those of .*16, 16"):
    ensembles.of(protocols.build("forecast", other))


@pytest.mark.parametrize(
  "made, videos, message",
  [
    (
      9,
      VIDEOS,
      "expected true videos of 9 frames or more, found 4 in video 2 of .* test",
    ),
    (4, [2, 99], r"go on from video 99; .* test has \d+ videos"),
    (4, [2], "expected 1 videos, as many as its record .*found 2"),
  ],
)
def test_samples_without_a_truth_are_refused_at_once(
  run, tmp_path, made, videos, message
):
  data = sampling.load(run).info["config"]["data"]
  given = {"data": NAME, "split": "test", "videos": videos}
  places.write_samples(
    tmp_path / "s", np.zeros((2, made, 12, 12, 1), np.uint8), (0,),
    load_config(data=data), given=given, seed=0,
  )  # fmt: skip
  asked = {"samples": (str(tmp_path / "s"),), "crps": "plugin"}
  with pytest.raises(UserError, match=f"`samples=.*s`: {message}"):
    protocol.evaluate(protocols.build("forecast", asked), tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"members": 1}, "`members=1`: the fair CRPS needs 2 members"),
    ({"members": 0}, "`members`: expected >= 1"),
    ({"batch_size": 0}, "`batch_size`: expected >= 1, found 0"),
    ({"num_frames": -1}, "`num_frames`: expected >= 0"),
    ({"workdir": ""}, "`workdir=RUN` or `samples=DIR`"),
    ({"samples": ("x",)}, "`workdir=RUN` or `samples=DIR`"),
    ({"crps": "best"}, "`crps=best`: expected both, plugin, fair"),
    ({"num_context": 4}, "`num_frames=4`: expected more than the 4"),
    ({"num_clips": 1000}, "`num_clips=1000`"),
    ({"num_frames": 99}, "videos of 99 frames or more"),
    ({"sampling": ("steps",)}, "`sampling`: expected KEY=VALUE"),
    ({"sampling": ("stepz=2",)}, "stepz"),
    ({"split": "tset"}, "tset"),
  ],
)
def test_a_mistake_is_named_and_leaves_nothing(run, tmp_path, changed, message):
  with pytest.raises(UserError, match=message):
    protocol.evaluate(settings(run, **changed), tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_one_member_has_a_plug_in_score(run, tmp_path):
  one = settings(run, members=1, crps="plugin", num_clips=1)
  found = protocol.evaluate(one, tmp_path).result["sets"]["model"]
  assert "crps_fair" not in found and np.isfinite(found["crps"]["mean"])


def test_names_are_checked():
  with pytest.raises(UserError, match="Did you mean 'forecast'.*position, walk"):
    protocols.build("forcast", {})
  with pytest.raises(UserError, match="`regressor`: protocol 'forecast' has no such"):
    protocols.build("forecast", {"regressor": "x"})


@pytest.mark.integration
def test_command(run, tmp_path):
  folders, _, _ = folders_of_samples(run, tmp_path)
  arguments = [f"--samples={folder}" for folder in folders]
  arguments += ["--protocol=forecast", "--crps=fair", f"--out={tmp_path / 'out'}"]
  done = vdm_jax("eval", *arguments, cwd=tmp_path, data_dir=tmp_path, check=False)
  assert done.returncode == 0, done.stderr
  assert "CRPS, fair" in done.stdout and "plug-in" not in done.stdout
  written = json.loads((tmp_path / "out" / "results.json").read_text())
  assert written["settings"]["samples"] == folders
  assert written["settings"]["crps"] == "fair" and written["members"] == 2


@pytest.mark.parametrize(
  "arguments, message",
  [
    ([], "eval: expected --protocol=NAME, one of bits, calls, forecast, fvd, images"),
    (
      ["--protocol=wlak"],
      "Did you mean 'walk'? Known: bits, calls, forecast, fvd, images, position, walk.",
    ),
  ],
)
def test_a_mistake_on_the_command_line_is_one_line(arguments, message, tmp_path):
  done = vdm_jax("eval", *arguments, cwd=tmp_path, data_dir=tmp_path, check=False)
  assert done.returncode == 2 and "Traceback" not in done.stderr
  assert message in done.stderr.strip().splitlines()[-1]
