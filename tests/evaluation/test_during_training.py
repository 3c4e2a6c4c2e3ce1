"""FVD of samples while a run trains, and the checkpoint that is best by it."""

import pytest

from tests.evaluation.test_fvd_protocol import Fake
from tests.helpers import load_config
from vdm_jax import experiment
from vdm_jax.errors import UserError
from vdm_jax.evaluation import during_training
from vdm_jax.metrics import weights
from vdm_jax.storage import workdirs

NAME = "moving_digits/12px_1digit_16frames_8digitpx_64videos"


def config(tmp_path, **train):
  return load_config(
    data={"name": NAME, "data_dir": str(tmp_path / "data")},
    sampling={"steps": 2},
    train={
      "num_steps": 4, "eval_every": 4, "eval_batches": 1, "num_samples": 0,
      "log_every": 1, "checkpoint_every": 4, "eval_fvd_every": 2, "eval_fvd_clips": 4,
      **train,
    },
  )  # fmt: skip


@pytest.fixture(autouse=True)
def fake(monkeypatch):
  monkeypatch.setattr(during_training.features, "Extractor", Fake)
  monkeypatch.setattr(weights, "load", lambda name: name)


@pytest.mark.integration
def test_it_is_logged_and_chooses_the_best_checkpoint(tmp_path, monkeypatch):
  # So that the first is the better one, whatever the samples.
  values = iter([1.0, 2.0, 3.0])
  measure = during_training.distances.measure

  def falling(*args, **kwargs):
    found = measure(*args, **kwargs)
    found["fvd"]["value"] = next(values)
    return found

  monkeypatch.setattr(during_training.distances, "measure", falling)
  workdir = str(tmp_path / "run")
  experiment.train(config(tmp_path, best_by="fvd"), workdir)
  lines = {line["step"]: line for line in workdirs.read_metrics(workdir)}
  assert {step for step, line in lines.items() if "fvd" in line} == {2, 4}
  assert lines[2]["fvd"] == 1.0 and "fvd_error" in lines[4] and "kvd" in lines[4]
  assert workdirs.status(workdir)["best_checkpoint"] == 2
  assert (tmp_path / "run" / "fvd").is_dir()


@pytest.mark.parametrize(
  ("train", "message"),
  [
    (
      {"best_by": "fvd", "eval_fvd_every": 0},
      "'fvd' wants",
    ),
    ({"best_by": "kvd"}, "config.train.best_by"),
    ({"eval_fvd_clips": 1}, "eval_fvd_clips: expected 2 or more, found 1"),
    ({"eval_fvd_clips": 1000}, "1000 videos to start from"),
  ],
)
def test_what_is_refused(tmp_path, train, message):
  with pytest.raises(UserError, match=message):
    experiment.train(config(tmp_path, **train), str(tmp_path / "run"))
