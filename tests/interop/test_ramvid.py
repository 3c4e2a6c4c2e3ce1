"""RaMViD's files: what shapes tell, what a preset adds, and where they disagree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm_jax.diffusion.schedule import Level
from vdm_jax.errors import UserError
from vdm_jax.frames import clip
from vdm_jax.interop import formats, mapping, ramvid
from vdm_jax.models.ramvid import RamvidSettings, RamvidUNet

SETTINGS = RamvidSettings(
  channels=32,
  channel_mults=(1, 1, 2),
  blocks=2,
  attention_resolutions=(8, 2),
  num_heads=2,
  num_heads_upsample=4,
  scale_shift=False,
  num_labels=3,
  learn_variance=True,
  out_channels=1,
)
HEIGHT = 8


def parameters(settings):
  shape = (1, 2, HEIGHT, HEIGHT, settings.out_channels)
  level = Level(jnp.zeros(1), jnp.zeros(1))
  init = RamvidUNet(settings).init
  cond = {"label": jnp.zeros((1, 1), jnp.int32)}
  return jax.eval_shape(
    init, jax.random.key(0), jnp.zeros(shape), level, clip(1, 2), cond
  )["params"]


@functools.cache
def shapes_of(settings):
  entries = ramvid.entries(settings, HEIGHT)
  return mapping.state_shapes(entries, parameters(settings))


def read(settings, name="model000007.pt", dataset=None, **asked):
  state = {
    key: np.broadcast_to(np.float32(0), shape)
    for key, shape in shapes_of(settings).items()
  }
  fields = formats.Fields({key.replace("__", "."): v for key, v in asked.items()})
  file = formats.File(name, state, dataset)
  return ramvid.read(file, fields), fields


def test_shapes_tell_all_that_leaves_a_trace():
  inferred = ramvid.infer(shapes_of(SETTINGS))
  assert inferred.attention_levels == (0, 2)
  assert inferred.resolutions(HEIGHT) == SETTINGS.attention_resolutions
  for name, value in inferred.model.items():
    assert getattr(SETTINGS, name) == value, name
  told = {*inferred.model, "attention_resolutions"}
  assert set(vars(SETTINGS)) - told == {
    "num_heads", "num_heads_upsample", "scale_time_dim", "dropout", "remat",
    "attention", "dtype", "patch", "show_given",
  }  # fmt: skip


@pytest.mark.parametrize("blocks, mults", [(1, (1,)), (3, (1,)), (1, (1, 2))])
def test_levels_and_blocks_are_told_apart(blocks, mults):
  settings = RamvidSettings(
    channels=32, channel_mults=mults, blocks=blocks, attention_resolutions=()
  )
  inferred = ramvid.infer(shapes_of(settings))
  assert inferred.model["blocks"] == blocks
  assert inferred.model["channel_mults"] == mults
  assert inferred.attention_levels == ()


def test_values_go_both_ways():
  entries = ramvid.entries(SETTINGS, HEIGHT)
  rng = np.random.default_rng(0)
  state = {
    key: rng.standard_normal(shape).astype(np.float32)
    for key, shape in shapes_of(SETTINGS).items()
  }
  back = mapping.to_state(entries, mapping.to_params(entries, state))
  assert back.keys() == state.keys()
  for key in state:
    np.testing.assert_array_equal(back[key], state[key])


def test_rows_of_qkv_are_heads_first_in_the_file():
  """Head h of the file's q, k and v is head h of ours."""
  entries = ramvid.entries(SETTINGS, HEIGHT)
  key = "input_blocks.1.1.qkv.bias"
  entry = next(entry for entry in entries if entry.key == key)
  heads, dim = 2, 16
  head, part, place = np.indices((heads, 3, dim))
  rows = 1000 * part + 100 * head + place
  ours = entry.layout.to_flax(rows.reshape(-1)).reshape(3, heads, dim)
  np.testing.assert_array_equal(ours, rows.transpose(1, 0, 2))


def test_without_a_preset_the_readme_fills_in_and_flags_win():
  published, fields = read(
    SETTINGS, data__frame_shape=(HEIGHT, HEIGHT, 1), model__num_heads=8,
    task__num_frames=4,
  )  # fmt: skip
  config = fields.config()
  assert config["system"] == "ramvid"
  assert config["model"]["attention_resolutions"] == (8, 2)
  assert config["model"]["num_heads"] == 8
  assert config["task"] == {
    "name": "random_mask", "num_frames": 4, "max_observed": 3,
    "uncondition_rate": 0.25, "mask_range": (), "stride": 1, "flip": False,
  }  # fmt: skip
  assert config["plan"] == {"name": "blocks", "overlap": 2}
  assert (published.step, published.ema) == (7, None)
  source = fields.sources
  assert source["model.channels"] == source["model.learn_variance"] == "shapes"
  assert source["model.num_heads"] == source["data.frame_shape"] == "flag"
  assert source["model.scale_time_dim"] == source["diffusion.num_steps"] == "default"


def test_names_of_averages():
  published, fields = read(SETTINGS, name="ema_0.999_012000.pt")
  assert (published.step, published.ema) == (12_000, "0.999")
  assert fields["train.ema"] == (0.999,)
  assert fields.sources["train.ema"] == "name"


def test_a_length_that_halves_time_is_that_of_the_clips():
  _, fields = read(SETTINGS, model__scale_time_dim=8)
  assert fields["task.num_frames"] == 8


def test_shapes_that_contradict_a_preset_are_named():
  with pytest.raises(
    UserError, match="channels is 32 by its shapes, 128 in `dataset=bair`"
  ):
    read(SETTINGS, dataset="bair")
  large = RamvidSettings(channels=128, blocks=3, attention_resolutions=(2, 1))
  with pytest.raises(UserError, match="blocks is 3 by its shapes, 2 in .*another data"):
    read(large, dataset="bair")
  _, fields = read(large, dataset="ucf101")
  assert fields.sources["model.num_heads"] == "preset"
  assert fields["task.uncondition_rate"] == 0.75


def test_shapes_that_contradict_a_flag_are_named():
  with pytest.raises(UserError, match="`model.blocks=5`: the shapes in the file say 2"):
    read(SETTINGS, model__blocks=5)
  with pytest.raises(UserError, match=r"say \(height, width, 1\)"):
    read(SETTINGS, data__frame_shape=(8, 8, 3))


def without(key):
  shapes = dict(shapes_of(SETTINGS))
  del shapes[key]
  return shapes


def changed(key, shape):
  return {**shapes_of(SETTINGS), key: shape}


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: {}, "it has no input_blocks.0.0.weight"),
    (lambda: without("out.2.weight"), "it has no out.2.weight"),
    (
      lambda: changed("input_blocks.0.0.weight", (32, 1, 3, 3)),
      "expected a kernel over time",
    ),
    (lambda: changed("out.2.weight", (5, 32, 3, 3, 3)), "1 channels in and 5 out"),
    (
      lambda: without("input_blocks.3.0.op.weight"),
      r"8 input blocks with resampling at \[6\]",
    ),
    (
      lambda: changed("input_blocks.4.0.out_layers.3.weight", (40, 32, 3, 3, 3)),
      r"levels of \[32, 40, 64\] channels after a stem of 32",
    ),
  ],
)
def test_other_files_are_refused(make, message):
  with pytest.raises(UserError, match=f"not a checkpoint of RaMViD: .*{message}"):
    ramvid.infer(make())


def test_recognises_a_plain_state_dict_of_3d_kernels():
  state = {"input_blocks.0.0.weight": np.zeros((32, 1, 3, 3, 3))}
  assert ramvid.recognises(state)
  assert not ramvid.recognises({"state_dict": state})
  assert not ramvid.recognises({"input_blocks.0.0.weight": np.zeros((32, 1, 3, 3))})
  assert not ramvid.recognises([1, 2])
