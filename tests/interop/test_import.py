"""`vdm-jax import` with a format of its own: reports, refusals, the workdir."""

import json
import runpy
import sys
import types

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests import helpers
from vdm_jax import sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.interop import formats, mapping, run_defaults, workdir

CONFIG = helpers.load_config()
PARAMS = helpers.lively(systems.build(CONFIG).init(jax.random.key(0)))
# The layout of this format: our own arrays, transposed, under names with dots.
TURNED = mapping.Layout(lambda a: a.T, lambda a: a.T)
ENTRIES = [
  mapping.Entry(path.replace("/", "."), path, TURNED)
  for path in traverse_util.flatten_dict(PARAMS, sep="/")
]


def read(file, fields):
  """Of the format 'tiny', a VDM."""
  fields.set("system", "vdm", "preset")
  fields.set("dtype", "float32", "preset")
  fields.set("data.frame_shape", (12, 12, 1), "preset")
  stem = file.contents["weights"]["backbone.stem.kernel"]
  fields.section("model", CONFIG["model"], "preset")
  fields.set("model.channels", stem.shape[0], "shapes")
  fields.section("diffusion", CONFIG["diffusion"], "file")
  fields.section("task", CONFIG["task"], "default")
  fields.set("train.ema", (0.99,), "file")
  fields.set("sampling.steps", file.preset({"small": 2, "large": 4}), "preset")
  return formats.Published(
    entries=ENTRIES,
    state=file.contents["weights"],
    tables=("betas",),
    step=30,
    ema=None if file.raw else "0.99",
  )


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
  """Two formats: 'tiny', and 'other' that recognises its own files alone."""
  for name in ("tiny", "other"):
    module = types.ModuleType(f"vdm_jax.interop.{name}")
    module.TITLE = name.upper()
    module.recognises = lambda contents, name=name: name in contents
    module.read = read
    monkeypatch.setitem(sys.modules, module.__name__, module)
  monkeypatch.setattr(formats, "NAMES", ("other", "tiny"))


def make_file(dataset="small", raw=False, **changes):
  state = mapping.to_state(ENTRIES, PARAMS) | {"betas": np.ones(3)} | changes
  state = {key: value for key, value in state.items() if value is not None}
  contents = {"tiny": True, "weights": state}
  return formats.File("tiny.pt", contents, dataset, raw)


@pytest.mark.parametrize("raw", [False, True])
def test_a_workdir_has_the_weights_and_samples(tmp_path, raw):
  out = tmp_path / "new" / "run"
  examined = workdir.examine("tiny", make_file(raw=raw))
  workdir.write(examined, str(out))
  model = sampling.load(str(out))
  jax.tree.map(np.testing.assert_array_equal, model.params, PARAMS)
  assert model.info["step"] == 30 and model.info["ema"] == (None if raw else "0.99")
  assert model.info["imported_from"] == "tiny.pt"
  assert model.info["sources"]["model.channels"] == "shapes"
  assert model.sample(1, steps=1).shape == (1, 4, 12, 12, 1)
  # Nothing but the workdir is left.
  assert [path.name for path in out.parent.iterdir()] == ["run"]
  assert {"checkpoints", "config.json", "config.py"} <= {p.name for p in out.iterdir()}


def test_its_config_file_has_the_same_values(tmp_path):
  examined = workdir.examine("tiny", make_file())
  workdir.write(examined, str(tmp_path / "run"))
  path = tmp_path / "run" / "config.py"
  text = path.read_text()
  assert "channels=8,  # shapes\n" in text and "num_steps=10000,  # default\n" in text
  config = json.loads(runpy.run_path(str(path))["get_config"]().to_json_best_effort())
  assert config == json.loads(json.dumps(examined.config))
  assert config["train"]["ema"] == [0.99]


def test_defaults_are_the_fields_of_the_config_files():
  base = traverse_util.flatten_dict(helpers.load_config("vdm_digits"), sep=".")
  missing = {
    name
    for name in base
    if not name.startswith(("model.", "diffusion.", "task."))
    and name not in run_defaults.FIELDS
  }
  # What every format says.
  assert missing == {"system", "data.frame_shape"}
  assert not run_defaults.FIELDS.keys() - base.keys()


def test_the_report_says_where_each_field_is_from():
  examined = workdir.examine("tiny", make_file(), {"train.batch_size": 2})
  text = workdir.report(examined)
  assert "tiny.pt: TINY, average of rate 0.99, step 30" in text
  shapes = text.split("config from the shapes of the arrays:\n")[1]
  assert shapes.startswith("  model.channels = 8\nconfig from the preset:\n")
  assert "config from what was asked for:\n  train.batch_size = 2\n" in text
  size = sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
  assert f"{size:,} parameters in {len(ENTRIES)} arrays" in text
  assert text.endswith("missing: none\nunexpected: none\nmisshaped: none")


def test_what_does_not_fit_is_listed_and_not_written(tmp_path):
  key = "backbone.head.kernel"
  wrong = np.zeros((1, 2, 3), np.float32)
  file = make_file(**{key: wrong, "backbone.head.bias": None, "surplus": np.zeros(1)})
  examined = workdir.examine("tiny", file)
  assert examined.comparison.missing == ["backbone.head.bias"]
  assert examined.comparison.unexpected == ["surplus"]
  text = workdir.report(examined)
  assert "missing: 1\n  backbone.head.bias\nunexpected: 1\n  surplus\n" in text
  assert f"misshaped: 1\n  {key}: expected " in text and "found (1, 2, 3)" in text
  with pytest.raises(UserError, match=r"1 missing, 1 unexpected, 1 misshaped"):
    workdir.write(examined, str(tmp_path / "run"))
  assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_refused(tmp_path):
  key = "backbone.head.kernel"
  damaged = mapping.to_state(ENTRIES, PARAMS)[key].copy()
  damaged.flat[0] = np.nan
  examined = workdir.examine("tiny", make_file(**{key: damaged}))
  with pytest.raises(UserError, match=f"not finite in 1 arrays, {key}"):
    workdir.write(examined, str(tmp_path / "run"))
  assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args):
    raise OSError("disk full")

  monkeypatch.setattr(workdir.workdirs, "write_description", fail)
  with pytest.raises(OSError, match="disk full"):
    workdir.write(workdir.examine("tiny", make_file()), str(tmp_path / "run"))
  assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="not empty"):
    workdir.check_free(str(tmp_path))
  with pytest.raises(UserError, match="not empty"):
    workdir.check_free(str(tmp_path / "notes.txt"))
  with pytest.raises(UserError, match="local folder"):
    workdir.check_free("gs://bucket/run")


def test_another_system_is_named():
  with pytest.raises(UserError, match="not a checkpoint of OTHER; it looks like TINY"):
    workdir.examine("other", make_file())
  unknown = formats.File("x.pt", {"weights": {}})
  with pytest.raises(UserError, match="not a checkpoint of TINY; none is recognised"):
    workdir.examine("tiny", unknown)
  with pytest.raises(UserError, match=r"`system` 'tyni'. Did you mean 'tiny'"):
    formats.load("tyni")


class TestPresets:
  def test_has_to_be_named_where_there_is_no_default(self):
    with pytest.raises(UserError, match="expected `dataset=NAME` with one of large, "):
      workdir.examine("tiny", make_file(dataset=None))

  def test_unknown(self):
    with pytest.raises(UserError, match="`dataset` 'smal'. Did you mean 'small'"):
      workdir.examine("tiny", make_file(dataset="smal"))


@pytest.mark.parametrize(
  "asked, message",
  [
    ({"model.channels": 16}, r"`model.channels=16`: the shapes in the file say 8"),
    ({"model.chanels": 8}, "Did you mean 'model.channels'"),
    ({"model.head_dim": "wide"}, "`model.head_dim='wide'`: expected a number"),
    ({"model.channel_mults": 2}, "`model.channel_mults=2`: expected a tuple"),
    ({"diffusion.predict": "w"}, "w"),
  ],
)
def test_fields_that_cannot_be_set(asked, message):
  with pytest.raises(UserError, match=message):
    workdir.examine("tiny", make_file(), asked)


def test_a_field_that_is_set_wins():
  asked = {"sampling.steps": 7, "model.channels": 8, "plan.overlap": 2}
  with pytest.raises(UserError, match="plan.overlap"):
    workdir.examine("tiny", make_file(), asked)
  del asked["plan.overlap"]
  examined = workdir.examine("tiny", make_file(), asked)
  assert examined.config["sampling"]["steps"] == 7
  assert examined.sources["sampling.steps"] == "flag"
  assert examined.sources["model.channels"] == "shapes"


def test_raw_parameters_of_a_file_of_averages(monkeypatch):
  module = formats.load("tiny")
  always = lambda file, fields: read(file._replace(raw=False), fields)  # noqa: E731
  monkeypatch.setattr(module, "read", always)
  with pytest.raises(UserError, match=r"`raw`: tiny\.pt holds averages alone"):
    workdir.examine("tiny", make_file(raw=True))
