"""One file that holds a model: written, read, refused."""

import json
import logging
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import vdm_jax as vdm
from tests import helpers
from vdm_jax import sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.evaluation import clip_sources
from vdm_jax.storage import checkpoint, exports, weights_file, workdirs

CONFIG = helpers.load_config(train={"ema": [0.9, 0.99]})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir with two averages and raw parameters, all different."""
  folder = str(tmp_path_factory.mktemp("weights_file") / "run")
  params = systems.build(CONFIG).init(jax.random.key(0))
  state = {
    "params": helpers.lively(params, 0),
    "ema": {"0.9": helpers.lively(params, 1), "0.99": helpers.lively(params, 2)},
  }
  checkpoints = checkpoint.Checkpoints(folder)
  checkpoints.save(7, state, None, workdirs.describe(CONFIG, "data"))
  checkpoints.close()
  return folder


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
  path = str(tmp_path_factory.mktemp("out") / "new" / "model.safetensors")
  exports.file(run, path)
  return path


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_it_samples_as_the_run_does(run, file):
  ours, theirs = sampling.load(run), vdm.load(file)
  equal(ours.params, theirs.params)
  config = {**ours.info["config"], "train": {**CONFIG["train"], "ema": ["0.9"]}}
  assert theirs.info["config"] == config
  assert theirs.info["step"] == 7 and theirs.info["ema"] == "0.9"
  assert theirs.info["data_fingerprint"] == "data"
  assert theirs.info["vdm_jax"] == vdm.__version__
  settings = {"steps": 2, "label": 3}
  np.testing.assert_array_equal(
    ours.sample(1, **settings), theirs.sample(1, **settings)
  )


def test_reading_a_run_writes_and_logs_nothing(run, caplog):
  before = sorted(pathlib.Path(run).rglob("*"))
  workdirs.read_weights(run)
  assert sorted(pathlib.Path(run).rglob("*")) == before
  assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_any_tool_reads_the_arrays_and_what_they_belong_to(run, file):
  flat = safetensors.numpy.load_file(file)
  params, _ = workdirs.read_weights(run)
  np.testing.assert_array_equal(
    flat["backbone/stem/kernel"], params["backbone"]["stem"]["kernel"]
  )
  with safetensors.safe_open(file, framework="numpy") as opened:
    about = {key: json.loads(text) for key, text in opened.metadata().items()}
  assert about["config"]["system"] == "vdm" and about["step"] == 7
  beside = pathlib.Path(file).with_name("beside")
  beside.touch()
  assert os.stat(file).st_mode == beside.stat().st_mode
  assert about["ema"] == "0.9" and about["jax"] == jax.__version__


def test_another_average_and_raw_parameters(run, tmp_path):
  exports.file(run, str(tmp_path / "slow.safetensors"), ema="0.99")
  params, info = workdirs.read_weights(str(tmp_path / "slow.safetensors"), ema="0.99")
  equal(params, workdirs.read_weights(run, ema="0.99")[0])
  assert info["ema"] == "0.99"
  config = helpers.load_config(train={"ema": []})
  raw = str(tmp_path / "raw")
  checkpoints = checkpoint.Checkpoints(raw)
  checkpoints.save(1, {"params": params}, None, workdirs.describe(config, ""))
  checkpoints.close()
  exports.file(raw, str(tmp_path / "raw.safetensors"))
  found, info = workdirs.read_weights(str(tmp_path / "raw.safetensors"))
  equal(found, params)
  assert info["ema"] is None and info["config"]["train"]["ema"] == []


def test_an_export_of_an_export_is_the_same(file, tmp_path):
  exports.folder(file, str(tmp_path / "slim"))
  exports.file(str(tmp_path / "slim"), str(tmp_path / "again.safetensors"))
  params, info = weights_file.read(str(tmp_path / "again.safetensors"))
  expected, first = weights_file.read(file)
  equal(params, expected)
  for key in ("config", "step", "ema", "data_fingerprint"):
    assert info[key] == first[key], key


def test_what_one_file_does_not_hold(file, run):
  with pytest.raises(UserError, match=r"no average of rate 0\.5, found 0\.9"):
    workdirs.read_weights(file, ema="0.5")
  with pytest.raises(UserError, match="of step 7 alone, .* asked for step 6"):
    workdirs.read_weights(file, step=6)
  with pytest.raises(UserError, match="asked for the best"):
    workdirs.read_weights(file, best=True)
  for of in (file, run):
    with pytest.raises(UserError, match="^`step=7` and `best=True`: expected one of"):
      vdm.load(of, step=7, best=True)
  workdirs.read_weights(file, ema="0.9", step=7, best=False)


def test_nothing_is_written_over(run, file, tmp_path):
  with pytest.raises(UserError, match="there already"):
    exports.file(run, file)
  with pytest.raises(UserError, match=r"a new file that ends with \.safetensors"):
    exports.file(run, str(tmp_path / "model.pt"))
  with pytest.raises(UserError, match="expected a folder"):
    exports.folder(run, str(tmp_path / "model.safetensors"))
  assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(run, tmp_path, monkeypatch):
  def fail(*_):
    raise OSError("no space left")

  path = tmp_path / "model.safetensors"
  monkeypatch.setattr(type(weights_file.epath.Path(path)), "replace", fail)
  with pytest.raises(UserError, match=r"cannot be written \(no space left\)"):
    exports.file(run, str(path))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [0, 5, 300, 0.5, 0.999])
def test_truncated(file, tmp_path, kept):
  data = open(file, "rb").read()
  path = tmp_path / "cut.safetensors"
  path.write_bytes(data[: int(len(data) * kept) if kept < 1 else kept])
  with pytest.raises(UserError, match=r"cut\.safetensors: not a safetensors file, or"):
    sampling.load(str(path))


@pytest.mark.parametrize("what", ["array", "config"])
def test_a_flipped_bit_is_found(file, tmp_path, what):
  data = bytearray(open(file, "rb").read())
  # A digit of the config, or a low bit of a weight: both leave a file that reads.
  place = len(data) - 4 if what == "array" else data.index(b"num_steps") + 13
  data[place] ^= 1
  path = tmp_path / "bad.safetensors"
  path.write_bytes(data)
  with safetensors.safe_open(path, framework="numpy") as opened:
    json.loads(opened.metadata()["config"])
  with pytest.raises(UserError, match=r"bad\.safetensors: damaged"):
    sampling.load(str(path))


def test_files_of_others_are_refused(tmp_path):
  path = str(tmp_path / "other.safetensors")
  safetensors.numpy.save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
  with pytest.raises(UserError, match="not a model of vdm_jax's: .*found no file_form"):
    sampling.load(path)
  with pytest.raises(UserError, match="no such file"):
    sampling.load(str(tmp_path / "missing.safetensors"))


def test_a_file_of_a_later_version(file, tmp_path, monkeypatch):
  monkeypatch.setattr(weights_file, "FORMAT", 2)
  with pytest.raises(UserError, match="format 1 of such files, this vdm_jax reads 2"):
    weights_file.read(file)


def test_reading_one_needs_no_extra(file):
  """PyTorch is not imported on the way."""
  code = (
    "import sys; from vdm_jax.storage import weights_file; "
    "weights_file.read(sys.argv[1]); assert 'torch' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code, file], check=True)


def test_it_is_measured_like_the_run(run, file):
  first = [
    clip_sources.open_source(
      name, argument="a", count=1, options={"steps": 2, "guidance": 0.0}
    ).read(0)
    for name in (run, file)
  ]
  np.testing.assert_array_equal(*first)
