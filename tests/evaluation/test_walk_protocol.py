"""From a data set to WD and PO: the regressor is trained, then reads samples."""

import json

import numpy as np
import pytest

from tests.evaluation import places
from tests.helpers import load_config
from vdm_jax import experiment
from vdm_jax.data import records
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.evaluation import positions, protocol, protocols

# All of them need a regressor that was trained.
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
  """Where data sets and runs are; a regressor was trained in `regressor`."""
  root = tmp_path_factory.mktemp("world")
  records.build(places.Places, records.ChunkConfig(name=""), root / "data")
  config = places.config(
    str(root / "data"),
    optimizer={"learning_rate": 3e-3, "warmup_steps": 10},
    train={
      "batch_size": 16,
      "num_steps": 150,
      "ema": [0.9],
      "eval_every": 150,
      "eval_batches": 1,
      "checkpoint_every": 0,
    },
  )
  experiment.train(config, str(root / "regressor"))
  return root


def real(world, split="test"):
  """All videos uint8 [N, T, S, S, 3] of a split."""
  source = sources.load("places", world / "data", split)
  everything = np.arange(places.LENGTH)
  return np.stack([source.read(i, everything) for i in range(source.num_videos)])


def sampled(folder, videos, given=(0, 1), **record):
  places.write_samples(folder, videos, given, load_config("debug"), **record)
  return str(folder)


def test_the_regressor_learned_where_frames_were_seen(world, tmp_path):
  lines = (world / "regressor" / "metrics.jsonl").read_text().splitlines()
  last = [json.loads(line) for line in lines][-1]
  assert last["validation_cell_accuracy"] > 0.8
  settings = protocols.build("position", {"workdir": str(world / "regressor")})
  outcome = protocol.evaluate(settings, tmp_path)
  found = outcome.result["results"]
  assert found["median_error"]["value"] < 0.2 * found["median_error_of_guess"]["value"]
  assert found["cell_accuracy"]["value"] > 0.8
  written = json.loads((tmp_path / "results.json").read_text())
  assert written["protocol"] == "position" and written["settings"]["split"] == "test"
  assert written["videos"] == 6 and written["frames"] == 6 * places.LENGTH
  assert (tmp_path / "map.png").exists()


def test_walks_are_told_from_jumps(world, tmp_path):
  walks = real(world, "train")[:8]
  shuffled = walks[:, np.random.default_rng(0).permutation(places.LENGTH)]
  frozen = np.repeat(walks[:, :1], places.LENGTH, axis=1)
  folders = [
    sampled(tmp_path / name, videos)
    for name, videos in (("walks", walks), ("jumps", shuffled), ("frozen", frozen))
  ]
  settings = {"samples": tuple(folders), "regressor": str(world / "regressor")}
  outcome = protocol.evaluate(protocols.build("walk", settings), tmp_path / "out")
  result = outcome.result
  sets = {
    name: {key: found[key]["value"] for key in result["titles"]}
    for name, found in result["sets"].items()
  }
  assert set(sets) == {"real, true positions", "real", "walks", "jumps", "frozen"}
  assert result["sets"]["real"]["videos"] == result["reference_videos"] == 3
  # 0.8 units a frame at 5 frames a second.
  assert sets["real, true positions"]["speed"] == pytest.approx(4.0, rel=0.1)
  assert result["outlier_speed"] == pytest.approx(12.0, rel=0.1)
  assert result["steps_counted"] == places.LENGTH - 2
  assert sets["walks"]["outliers"] < 0.1 < 0.5 < sets["jumps"]["outliers"]
  assert sets["walks"]["speed_distance"] < 1 < 3 < sets["frozen"]["speed_distance"]
  assert sets["frozen"]["outliers"] == sets["frozen"]["through_walls"] == 0
  assert sets["jumps"]["through_walls"] > sets["real, true positions"]["through_walls"]
  for name in ("table.txt", "speeds.png", "map.png"):
    assert (tmp_path / "out" / name).exists()
  assert "jumps" in outcome.table


def test_samples_may_be_longer_than_real_videos(world, tmp_path):
  videos = np.concatenate([real(world)] * 2, axis=1)
  settings = {
    "samples": (sampled(tmp_path / "long", videos),),
    "regressor": str(world / "regressor"),
    "outlier_speed": 9.0,
  }
  result = protocols.build("walk", settings).run(tmp_path).result
  assert result["frames"] == 2 * places.LENGTH and result["outlier_speed"] == 9.0
  # Where the second copy starts, the walk jumps.
  value = result["sets"]["long"]["outliers"]["value"]
  assert value >= 1 / (2 * places.LENGTH) / 2


def test_mistakes_are_named(world, tmp_path):
  regressor = str(world / "regressor")
  good = sampled(tmp_path / "good", real(world))
  large = sampled(tmp_path / "large", np.zeros((1, 5, 12, 12, 3), np.uint8))
  short = sampled(tmp_path / "short", real(world)[:, :9])

  def walk(message, **settings):
    with pytest.raises(UserError, match=message):
      protocols.build("walk", settings).run(tmp_path)

  walk("`samples`: expected one folder")
  walk("`regressor`: expected the workdir", samples=(good,))
  walk("no such workdir", samples=(good,), regressor=str(tmp_path / "nothing"))
  walk("found no videos.npz", samples=(str(tmp_path),), regressor=regressor)
  walk("large`: frames are \\(12, 12, 3\\)", samples=(large,), regressor=regressor)
  walk("good and .*short differ in frames", samples=(good, short), regressor=regressor)
  walk("outlier_factor", samples=(good,), regressor=regressor, outlier_factor=0.0)
  walk("outlier_speed", samples=(good,), outlier_speed=float("nan"))
  walk("splits?.*tset", samples=(good,), regressor=regressor, split="tset")


def test_a_map_of_another_size_is_refused(world, monkeypatch):
  reader = positions.load(str(world / "regressor"), "regressor")
  source = positions.open_data(reader, "", str(world / "data"), "test")
  source.metadata["map"] = {"bounds": [0.0, 0.0, 1.0, 1.0]}
  monkeypatch.setattr(sources, "load", lambda *_, **__: source)
  with pytest.raises(UserError, match="config.model.bounds"):
    positions.open_data(reader, "", "", "test")
