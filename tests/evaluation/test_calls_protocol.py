"""A forecast of every sampler and number of steps, through the protocol."""

import json

import numpy as np
import pytest

from vdm_jax import sampling
from vdm_jax.errors import UserError
from vdm_jax.evaluation import protocol, protocols


def settings(workdir, **changed):
  fields = {"workdir": workdir, "num_clips": 2, "members": 2, "num_context": 2}
  return protocols.build("calls", {**fields, **changed})


@pytest.mark.integration
def test_each_point_is_the_forecast_with_its_settings(run, tmp_path, monkeypatch):
  grid = {"samplers": ("ddim", "langevin"), "steps": ("3", "1")}
  asked, sample = [], sampling.Model.sample

  def noted(self, *args, **kwargs):
    asked.append((kwargs["sampler"], kwargs["steps"]))
    return sample(self, *args, **kwargs)

  monkeypatch.setattr(sampling.Model, "sample", noted)
  found = protocol.evaluate(settings(run, **grid), tmp_path / "calls").result
  points = [("ddim", 3), ("ddim", 1), ("langevin", 3), ("langevin", 1)]
  assert asked == points  # Clips and members are one batch.
  assert [p["calls"] for p in found["samplers"]["ddim"]] == [3, 1]
  assert [p["calls"] for p in found["samplers"]["langevin"]] == [5, 1]
  alone = protocols.build(
    "forecast",
    {"workdir": run, "num_clips": 2, "members": 2, "num_context": 2,
     "sampling": ("sampler=ddim", "steps=1")},
  )  # fmt: skip
  alone = protocol.evaluate(alone, tmp_path / "alone").result["sets"]["model"]
  np.testing.assert_allclose(
    found["samplers"]["ddim"][1]["crps_fair"]["mean"], alone["crps_fair"]["mean"]
  )
  assert set(found["baselines"]) == {"last frame copied", "constant velocity"}
  assert (tmp_path / "calls" / "calls.png").exists()
  table = (tmp_path / "calls" / "table.txt").read_text()
  assert [row.split()[:2] for row in table.splitlines()[4:6]] == [
    ["ddim", "3"], ["ddim", "1"]
  ]  # fmt: skip

  # What is there is not sampled again; what is of other settings is refused.
  asked.clear()
  (tmp_path / "calls" / "results.json").unlink()
  again = protocol.evaluate(settings(run, **grid), tmp_path / "calls").result
  assert not asked
  assert json.loads(protocol.as_json(again)) == json.loads(protocol.as_json(found))
  (tmp_path / "calls" / "results.json").unlink()
  with pytest.raises(UserError, match="other settings"):
    protocol.evaluate(settings(run, seed=1, **grid), tmp_path / "calls")


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"workdir": ""}, "expected `workdir=RUN`"),
    ({"samples": ("DIR",)}, "no `samples`"),
    ({"steps": ("ten",)}, "`steps=ten`"),
    ({"steps": ("0",)}, "`steps=0`"),
    ({"samplers": ()}, "`samplers` and `steps`, one or more"),
    ({"samplers": ("euler",)}, "unknown `sampler` .*euler"),
    ({"samplers": ("dpmpp_2m",), "sampling": ("resample=2",)}, "Resample"),
  ],
)
def test_bad_settings_are_named_before_anything_is_sampled(
  run,
  tmp_path,
  monkeypatch,
  changed,
  message,
):
  def never(*args, **kwargs):
    raise AssertionError("sampled")

  monkeypatch.setattr(sampling.Model, "sample", never)
  with pytest.raises(UserError, match=message):
    settings(**{"workdir": run, **changed}).run(tmp_path)


def test_one_clip_has_no_error_and_its_stopped_job_goes_on(run, tmp_path):
  one = settings(run, num_clips=1, samplers=("ddim",), steps=("1", "2"))
  first = protocol.evaluate(one, tmp_path / "calls").result
  assert np.isnan(first["samplers"]["ddim"][0]["crps_fair"]["error"])
  (tmp_path / "calls" / "results.json").unlink()
  again = protocol.evaluate(one, tmp_path / "calls").result
  assert protocol.as_json(again) == protocol.as_json(first)
