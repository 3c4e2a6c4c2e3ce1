"""The authors' options of FDM become a config, and their arrays parameters."""

import jax
import numpy as np
import pytest

from tests import helpers
from vdm_jax import systems
from vdm_jax.errors import UserError
from vdm_jax.interop import fdm, formats, mapping
from vdm_jax.systems.parts import Objective

# The README's command for CARLA, small.
OPTIONS = {
  "dataset": "carla_no_traffic",
  "schedule_sampler": "uniform",
  "lr": 1e-4,
  "weight_decay": 0.0,
  "lr_anneal_steps": 0,
  "batch_size": 2,
  "microbatch": -1,
  "ema_rate": "0.9999,0.99",
  "pad_with_random_frames": True,
  "max_frames": 20,
  "T": 1000,
  "image_size": 32,
  "num_channels": 32,
  "num_res_blocks": 1,
  "num_heads": 4,
  "num_heads_upsample": -1,
  "attention_resolutions": "16,8",
  "dropout": 0,
  "learn_sigma": False,
  "sigma_small": False,
  "class_cond": False,
  "diffusion_steps": 1000,
  "noise_schedule": "linear",
  "timestep_respacing": "",
  "use_kl": False,
  "predict_xstart": False,
  "rescale_timesteps": True,
  "rescale_learned_sigmas": True,
  "use_scale_shift_norm": True,
  "use_rpe_net": True,
}


def read(name="ema_0.9999_000070.pt", asked=None, state=None, **changes):
  contents = {"state_dict": state or {}, "config": OPTIONS | changes, "step": 70}
  fields = formats.Fields(asked)
  return fdm.read(formats.File(name, contents), fields), fields


def test_random_weights_go_in_and_come_out():
  published, fields = read()
  system = systems.build(fields.config())
  shapes = jax.eval_shape(system.init, jax.random.key(0))
  params = helpers.lively(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  )
  state = mapping.to_state(published.entries, params)
  assert state["input_blocks.0.0.weight"].shape == (32, 4, 3, 3)
  assert not mapping.compare(
    published.entries, {key: value.shape for key, value in state.items()}, shapes
  )
  again = mapping.to_params(published.entries, state)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  assert fdm.recognises({"state_dict": state, "config": OPTIONS, "step": 0})
  assert not fdm.recognises(state)
  assert not fdm.recognises({"state_dict": {}, "config": {}})


def test_the_config_is_that_of_the_authors_options():
  published, fields = read()
  assert published.step == 70 and published.ema == "0.9999"
  config = fields.config()
  assert config["data"]["frame_shape"] == (32, 32, 3)
  assert config["model"]["channel_mults"] == (1, 2, 2, 2)
  assert config["model"]["attention_resolutions"] == (16, 8)
  assert config["model"]["num_heads_upsample"] == 0
  assert config["task"] == {
    "name": "random_subsets",
    "max_frames": 20,
    "clip_length": 1000,
    "padding": "random",
  }
  assert config["train"]["ema"] == (0.9999, 0.99)
  assert config["optimizer"]["clip_norm"] == 0.0
  assert config["sampling"]["gamma"] == 1.0 and config["sampling"]["steps"] == 1000
  system = systems.build(config)
  assert system.objective == Objective(
    predict="eps", space="eps", where="unobserved", normalise="all"
  )
  assert system.gamma == 1.0 and system.window == 20
  assert system.schedule.num_steps == 1000
  assert system.plan == "hierarchy-2"
  assert fields.sources["model.channels"] == "file"


@pytest.mark.parametrize(
  "changes, expected",
  [
    ({"use_kl": True}, {"kind": "kl", "where": "all"}),
    ({"pad_with_random_frames": False}, {"where": "latent"}),
    ({"predict_xstart": True}, {"predict": "x", "loss_space": "x"}),
    ({"sigma_small": True}, {"gamma": 0.0}),
    ({"noise_schedule": "cosine"}, {"schedule": "cosine_steps"}),
    ({"rescale_timesteps": False}, {"rescale_time": False}),
  ],
)
def test_flags_of_the_diffusion(changes, expected):
  _, fields = read(**changes)
  config = fields.config()
  assert {key: config["diffusion"][key] for key in expected} == expected
  systems.build(config)


def test_a_learned_variance_has_six_channels():
  published, fields = read(learn_sigma=True)
  params = jax.eval_shape(systems.build(fields.config()).init, jax.random.key(0))
  shapes = mapping.state_shapes(published.entries, params)
  assert shapes["out.2.weight"] == (6, 32, 3, 3)


def test_what_the_user_asks_for_wins():
  asked = {"model.padding_in_norm": False, "data.name": "mine"}
  _, fields = read(asked=asked)
  assert fields["model.padding_in_norm"] is False and fields["data.name"] == "mine"
  assert fields.sources["model.padding_in_norm"] == "flag"


def test_a_raw_file_and_a_resolution_that_never_occurs():
  published, fields = read("model000070.pt", attention_resolutions="64,8")
  assert published.ema is None
  assert fields["model.attention_resolutions"] == (8,)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"image_size": 48}, r"config\.image_size: expected one of \[32, 64, 128, 256\]"),
    ({"use_rpe_net": False}, r"config\.use_rpe_net: only"),
    ({"noise_schedule": "sigmoid"}, r"noise_schedule: expected linear or cosine"),
    ({"timestep_respacing": "250"}, r"config\.timestep_respacing"),
    ({"learn_sigma": True, "rescale_learned_sigmas": False}, "rescale_learned_sigmas"),
    ({"num_channels": "32"}, r"config\.num_channels: expected int, found '32'"),
    ({"lr": True}, r"config\.lr: expected float, found True"),
    ({"attention_resolutions": "16;8"}, r"expected numbers with commas, found '16;8'"),
  ],
)
def test_options_that_cannot_be(changes, message):
  with pytest.raises(UserError, match=message):
    read(**changes)


def test_an_option_that_is_missing():
  options = {key: value for key, value in OPTIONS.items() if key != "num_heads"}
  contents = {"state_dict": {}, "config": options, "step": 0}
  with pytest.raises(UserError, match="its config has no 'num_heads'"):
    fdm.read(formats.File("x.pt", contents), formats.Fields())


def test_the_older_code_is_refused_by_name():
  with pytest.raises(UserError, match=r"older research code \(spatial_encoding\)"):
    read(state={"spatial_encoding": np.zeros(1)})
  with pytest.raises(UserError, match="found no step"):
    fdm.read(formats.File("x.pt", {"state_dict": {}, "config": {}}), formats.Fields())
