"""What is written equals the authors' layouts; what those cannot hold is refused."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tests import helpers
from tests.interop import published
from tests.interop.written import (
  CONFIGS,
  SIZE,
  WRITERS,
  changed,
  random_params,
  trained,
)
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.errors import UserError
from vdm_jax.interop import (
  fdm,
  fdm_write,
  improved_write,
  mapping,
  ramvid_write,
  rvd,
  rvd_write,
  writing,
)
from vdm_jax.storage import workdirs

pytest.importorskip("torch")


class TestLayouts:
  """Keys, shapes and options of the authors' own files, at full size."""

  @pytest.fixture(autouse=True)
  def shapes_alone(self, monkeypatch):
    monkeypatch.setattr(writing, "state_dict", mapping.state_shapes)

  @pytest.mark.parametrize(
    "config, layout, changes",
    [
      ("fdm_carla", "carla128_readme_command", {"train": {"batch_size": 2}}),
      (
        "fdm_gqn_mazes",
        "mazes64_defaults",
        {"train": {"batch_size": 1}, "model": {"blocks": 2}},
      ),
    ],
  )
  def test_fdm(self, config, layout, changes):
    options, shapes, _ = published.fdm_layout(layout)
    config = helpers.load_config(config, **changes)
    assert fdm_write.refusals(trained(config)) == []
    written = fdm_write.write(trained(config))
    assert written.path == "ema_0.9999_000007.pt"
    found = written.contents["state_dict"]
    assert found == {key: tuple(shape) for key, shape in shapes.items()}
    assert written.contents["config"] == options
    assert list(written.contents["config"]) == list(options)

  @pytest.mark.parametrize(
    "config, layout",
    [
      ("ramvid_kinetics600", "kinetics600_and_ucf101_readme"),
      ("ramvid_ucf101", "kinetics600_and_ucf101_readme"),
      ("ramvid_bair", "bair_readme"),
    ],
  )
  def test_ramvid(self, config, layout):
    found = json.loads((published.GOLDEN / "ramvid_checkpoint_keys.json").read_text())
    expected = found["configs"][layout]
    config = helpers.load_config(config)
    assert ramvid_write.refusals(trained(config)) == []
    written = ramvid_write.write(trained(config))
    assert written.contents == {k: tuple(s) for k, s in expected["keys"].items()}
    assert written.options == expected["flags"]

  @pytest.mark.parametrize("case", ["rvd_b_train", "rvd_direct_train"])
  def test_rvd(self, case):
    with np.load(published.GOLDEN / f"{case}.npz") as arrays:
      theirs = json.loads(str(arrays["meta"]))["config"]
      shapes = {
        key.removeprefix("param/"): arrays[key].shape
        for key in arrays.files
        if key.startswith("param/")
      }
    direct = theirs["transform_mode"] != "residual"
    model = {
      "channels": theirs["dim"],
      "channel_mults": theirs["dim_mults"],
      "predictor_mults": theirs.get("transform_dim_mults") or [1, 2],
      "context_factor": theirs["context_dim_factor"],
      "predictor_factor": theirs.get("transform_dim_factor") or 1.0,
      "recurrent_block": theirs["backbone"],
      "residual": not direct,
    }
    config = helpers.load_config(
      "rvd_bair",
      data={"frame_shape": [SIZE, SIZE, theirs["channels"]]},
      model=model,
      diffusion={"predict": {"noise": "eps", "pred_true": "x"}[theirs["pred_mode"]]},
    )
    assert rvd_write.refusals(trained(config)) == []
    written = rvd_write.write(trained(config))
    shapes |= dict.fromkeys(rvd.TABLES, (theirs["timesteps"],))
    found = {
      key: getattr(value, "shape", value)
      for key, value in written.contents["ema"].items()
    }
    assert found == shapes
    options = written.options
    assert options["pred_mode"] == theirs["pred_mode"]
    assert options["transform_mode"] == ("none" if direct else "residual")
    assert options["embed_dim"] == theirs["dim"]

  @pytest.mark.parametrize("config", ["rvd_bair", "rvd_cityscapes", "rvd_simulation"])
  def test_rvd_presets(self, config):
    config = helpers.load_config(config)
    assert rvd_write.refusals(trained(config)) == []
    written = rvd_write.write(trained(config))
    assert len(written.contents["ema"]) == (
      416 if config["data"]["frame_shape"][0] == 64 else 558
    )
    name = os.path.basename(written.path)
    known = {"bair": "bair_robot_pushing", "cityscapes": "city", "fluid": "simu"}
    dataset = known[config["data"]["name"].split("/")[0]]
    assert rvd.from_name(name) == {"predict": "eps", "norm": "l1", "dataset": dataset}


def test_tables_of_rvd_are_the_authors():
  with np.load(published.GOLDEN / "rvd_schedule.npz") as arrays:
    for steps in (1600, 5):
      schedule = DiscreteSchedule.cosine(steps, rescale_time=False)
      tables = rvd_write.tables(schedule)
      assert tuple(tables) == rvd.TABLES
      for name, table in tables.items():
        assert table.dtype == np.float32
        np.testing.assert_allclose(table, arrays[f"out/T{steps}/{name}"], rtol=2e-7)


@pytest.mark.parametrize("name", ["fdm", "ramvid"])
def test_options_say_the_config_again(name):
  """Every choice of the diffusion that their options have."""
  base = {"schedule": "linear_steps", "num_steps": 30, "gamma": 1.0, "predict": "eps",
          "loss_space": "eps", "weighting": "simple", "given_noise": 0.0,
          "rescale_time": True, "kind": "mse"}  # fmt: skip
  for changes in (
    {},
    {"schedule": "cosine_steps"},
    {"predict": "x", "loss_space": "x"},
    {"gamma": 0.0},
    {"rescale_time": False, "num_steps": 4000},
    {"kind": "kl", "where": "all"},
  ):
    if name == "ramvid" and "kind" in changes:
      continue  # No loss of theirs.
    config = changed(name, diffusion=base | changes)
    if name == "ramvid":
      config["model"]["learn_variance"] = False
    options = improved_write.options(trained(config))
    if name == "fdm":
      options = {**options, "use_rpe_net": True, "pad_with_random_frames": False}
      network = trained(config).network
      again = fdm.settings_from_options(options)
      for field in dataclasses.fields(network):
        if field.name not in ("remat", "attention", "dtype", "channel_mults",
                              "attention_resolutions"):  # fmt: skip
          assert getattr(again, field.name) == getattr(network, field.name)
    section = fdm.diffusion_from_options({**options, "pad_with_random_frames": False})
    for key, value in (base | changes).items():
      if key != "given_noise":
        assert section[key] == value, key


@pytest.mark.parametrize(
  "name, sections, message",
  [
    (
      "fdm",
      {"model": {"show_given": True, "patch": 2}, "diffusion": {"predict": "v"}},
      r"show_given = True \(there: False\); config.model.patch = 2 \(there: 1\); "
      r"config.diffusion.predict = 'v' \(there: 'eps' or 'x'\)\. A safetensors",
    ),
    ("fdm", {"model": {"pool_given": True}}, "pool_given = True"),
    ("fdm", {"model": {"padding_in_norm": False}}, "padding_in_norm = False"),
    ("fdm", {"model": {"learn_variance": True}}, "learn_variance = True"),
    ("fdm", {"model": {"channel_mults": [1, 2, 4]}}, r"4\] \(there: \(1, 2, 2, 2\)"),
    (
      "fdm",
      {"data": {"frame_shape": [32, 64, 3]}},
      r"\(32, 64, 3\) \(there: \(256, 25",
    ),
    ("fdm", {"data": {"frame_shape": [32, 32, 1]}}, r"\(32, 32, 1\) \(there: "),
    ("fdm", {"diffusion": {"schedule": "cosine"}}, "schedule = 'cosine' "),
    ("fdm", {"diffusion": {"gamma": 0.5}}, r"gamma = 0.5 \(there: 0.0 or 1.0\)"),
    ("fdm", {"diffusion": {"cosine_s": 0.1}}, r"cosine_s = 0.1 \(there: 0.008\)"),
    ("ramvid", {"model": {"num_labels": 10}}, r"num_labels = 10 \(there: 0 or 1000"),
    ("ramvid", {"model": {"show_given": True}}, "show_given = True"),
    ("ramvid", {"model": {"patch": 2, "attention_resolutions": [4]}}, "patch = 2"),
    ("ramvid", {"diffusion": {"predict": "flow"}}, "predict = 'flow'"),
    (
      "rvd",
      {"model": {"finest_skip": True, "join": True}},
      "finest_skip = .* config.model.join = ",
    ),
    ("rvd", {"model": {"estimate_frame": True}}, "estimate_frame = True"),
    ("rvd", {"model": {"residual_scale": 0.5}}, "residual_scale = 0.5"),
    ("rvd", {"model": {"denoiser_block": "convnext"}}, "denoiser_block = 'convnext'"),
    (
      "rvd",
      {"model": {"context_factor": 0.0, "predictor_mults": [1, 2]}},
      r"context_factor = 0 \(there: more than 0\)",
    ),
    ("rvd", {"diffusion": {"rescale_time": True}}, "rescale_time = True"),
    ("rvd", {"diffusion": {"schedule": "linear_steps"}}, "schedule = 'linear_steps'"),
    ("rvd", {"data": {"frame_shape": [32, 64, 1]}}, r"there: squares"),
  ],
)
def test_what_the_authors_code_cannot_run(
  name, sections, message, monkeypatch, tmp_path
):
  config = changed(name, **sections)
  info = {"config": config, "step": 1, "ema": None}
  monkeypatch.setattr(workdirs, "read_weights", lambda *_, **__: ({}, info))
  with pytest.raises(UserError, match=f"authors cannot run this model: .*{message}"):
    writing.export("run", str(tmp_path / "out"))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_every_field_of_a_network_is_said_or_refused(name):
  """A field that is added later is not left out in silence."""
  said = {
    "channels", "channel_mults", "blocks", "attention_resolutions", "num_heads",
    "num_heads_upsample", "scale_shift", "dropout", "learn_variance", "out_channels",
    "scale_time_dim", "predictor_mults", "context_factor", "predictor_factor",
    "recurrent_block", "residual",
  }  # fmt: skip
  machine = {"remat", "attention", "dtype"}
  fields = {field.name for field in dataclasses.fields(trained(CONFIGS[name]).network)}
  assert fields <= said | machine | set(WRITERS[name]._MODEL)


def test_parameters_that_a_format_has_no_key_for_are_not_dropped():
  config = CONFIGS["rvd"]
  params = {**random_params(config), "more": {"kernel": np.zeros(3)}}
  with pytest.raises(ValueError, match="format and parameters differ"):
    rvd_write.write(trained(config, params))
