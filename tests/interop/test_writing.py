"""Checkpoints in the authors' layouts: written, read back, the same model."""

import dataclasses
import json
import os
import pickletools
import shlex
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from tests import helpers
from tests.interop import published
from tests.interop.written import CONFIGS, SIZE, WRITERS, changed, random_params
from vdm_jax import key_values, sampling, systems
from vdm_jax.errors import UserError
from vdm_jax.interop import formats, ramvid, rvd, torch_file, workdir, writing
from vdm_jax.models import ramvid as ramvid_model
from vdm_jax.storage import checkpoint, workdirs

torch = pytest.importorskip("torch")


def make_run(config, folder, step=1234):
  """A workdir with other random weights for each average, as training leaves it."""
  ema = {str(r): random_params(config, i) for i, r in enumerate(config["train"]["ema"])}
  state = {"params": random_params(config, 9), "ema": ema}
  checkpoints = checkpoint.Checkpoints(str(folder))
  checkpoints.save(step, state, None, workdirs.describe(config, ""))
  checkpoints.close()
  return str(folder)


def import_again(command, out):
  """Does what the printed command says, into another folder."""
  words = shlex.split(command)
  assert words[:2] == ["vdm-jax", "import"] and words[4] == "--out=DIR"
  system, path = words[2].removeprefix("--system="), words[3]
  fields = key_values.parse([w.removeprefix("--set=") for w in words[5:]], "set")
  file = formats.File(os.path.basename(path), torch_file.read(path))
  examined = workdir.examine(system, file, fields)
  workdir.write(examined, str(out))
  return str(out)


# One of them is in every run, the others in those of CI.
EACH = ["fdm", *(pytest.param(name, marks=pytest.mark.integration) for name in WRITERS
                 if name != "fdm")]  # fmt: skip


@pytest.fixture(scope="module", params=EACH)
def made(request, tmp_path_factory):
  """(system, run, what was exported of it, the import of that)."""
  folder = tmp_path_factory.mktemp(request.param)
  run = make_run(CONFIGS[request.param], folder / "run")
  exported = writing.export(run, str(folder / "theirs"))
  again = import_again(exported.command, folder / "again")
  return request.param, run, exported, again


def test_what_is_imported_again_is_the_same_model(made):
  name, run, exported, again = made
  before, info = workdirs.read_weights(run)
  after, found = workdirs.read_weights(again)
  jax.tree.map(np.testing.assert_array_equal, after, before)
  assert found["step"] == info["step"] == 1234
  # The rate that RVD's authors use is in no file.
  assert found["ema"] == ("0.998" if name == "rvd" else "0.99")
  ours, theirs = systems.build(info["config"]), systems.build(found["config"])
  machine = {"remat": "none", "attention": "auto"}
  known = {f.name for f in dataclasses.fields(ours.network.settings)}
  machine = {key: value for key, value in machine.items() if key in known}

  def plain(settings):
    fields = vars(dataclasses.replace(settings, **machine))
    return {k: list(v) if isinstance(v, tuple | list) else v for k, v in fields.items()}

  a, b = plain(ours.network.settings), plain(theirs.network.settings)
  for settings in (a, b):  # The order says nothing.
    settings["attention_resolutions"] = sorted(
      settings.get("attention_resolutions", ())
    )
  assert a == b
  np.testing.assert_array_equal(
    ours.schedule.alphas_cumprod, theirs.schedule.alphas_cumprod
  )
  np.testing.assert_array_equal(ours.schedule.time, theirs.schedule.time)
  assert ours.objective.predict == theirs.objective.predict
  assert ours.gamma == theirs.gamma and ours.window == theirs.window
  for section in ("sampling", "plan"):
    assert info["config"][section] == found["config"][section]
  assert list(theirs.frame_shape) == info["config"]["data"]["frame_shape"]


@pytest.mark.slow
def test_what_is_imported_again_samples_the_same(made):
  _, run, _, again = made
  given = np.random.default_rng(0).uniform(-1, 1, (2, SIZE, SIZE, 3))
  videos = []
  for folder in (run, again):
    model = sampling.load(folder)
    clip = given[..., : model.system.frame_shape[2]].astype(np.float32)
    videos.append(model.sample(1, length=4, given=clip, seed=3))
  assert np.isfinite(videos[0]).all() and np.ptp(videos[0][:, 2:]) > 0
  np.testing.assert_array_equal(*videos)


def test_files_have_the_authors_names_and_no_classes(made):
  name, run, exported, _ = made
  folder = os.path.dirname(run)
  path = os.path.relpath(exported.path, os.path.join(folder, "theirs"))
  if name == "rvd":
    told = "convnext-adam-pred_true-l2-video_folder_mine-d16-t30-residual-alFalse"
    assert path == f"{told}/{told}_0.pt"
  else:
    assert path == "ema_0.99_001234.pt"
  with zipfile.ZipFile(exported.path) as archive:
    (pickled,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
    names = {
      argument
      for code, argument, _ in pickletools.genops(archive.read(pickled))
      if code.name in ("GLOBAL", "STACK_GLOBAL")
    }
  assert names == {
    "torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict",
  }  # fmt: skip
  state = torch.load(exported.path, weights_only=True)
  if name == "fdm":
    assert list(state) == ["state_dict", "config", "step"] and state["step"] == 1234
    state = state["state_dict"]
  if name == "rvd":
    assert list(state) == ["step", "model", "ema"] and state["step"] == 1234
    for key, tensor in state["ema"].items():
      assert torch.equal(state["model"][key], tensor)
    state = state["ema"]
  assert all(tensor.dtype == torch.float32 for tensor in state.values())


@pytest.mark.parametrize("system", EACH)
def test_import_export_import(system, tmp_path):
  """From a file in the authors' layout to the same file."""
  small = published.SMALL[system]()
  if system == "ramvid":  # Of a size that their scripts can build.
    settings = ramvid_model.RamvidSettings(
      channels=32, channel_mults=(1, 2, 2, 2), blocks=1, attention_resolutions=(16, 8)
    )
    network = ramvid_model.RamvidUNet(settings)
    shapes = published.network_shapes(network, ramvid.entries(settings, SIZE))
    small = small._replace(contents=published.filled(shapes))
  path = tmp_path / small.name
  torch.save(small.contents, path)
  first = published.examine(system, path, asked=small.asked)
  workdir.write(first, str(tmp_path / "first"))
  exported = writing.export(str(tmp_path / "first"), str(tmp_path / "theirs"))
  assert not exported.lost
  old, new = small.contents, torch.load(exported.path, weights_only=True)
  if system == "fdm":
    assert new["config"] == old["config"] and new["step"] == old["step"]
    assert list(new["config"]) == list(old["config"])
    assert os.path.basename(exported.path) == small.name
    old, new = old["state_dict"], new["state_dict"]
  if system == "rvd":
    assert new["step"] == old["step"]
    old, new = old["ema"], new["ema"]
  assert set(new) == set(old)
  for key in set(old) - set(rvd.TABLES):
    assert torch.equal(new[key], old[key].data), key
  again = import_again(exported.command, tmp_path / "again")
  second = workdirs.read_weights(again)
  jax.tree.map(
    np.testing.assert_array_equal,
    second[0],
    workdirs.read_weights(str(tmp_path / "first"))[0],
  )
  before = json.loads(json.dumps(first.config))
  after = second[1]["config"]
  for config in (before, after):
    config["train"].pop("ema")
  assert checkpoint.differences(before, after) == []


def test_what_no_import_can_know_is_said(tmp_path):
  run = make_run(CONFIGS["fdm"], tmp_path / "run")
  exported = writing.export(run, str(tmp_path / "out"), ema="0.9")
  assert os.path.basename(exported.path) == "ema_0.9_001234.pt"
  assert exported.lost == ["config.diffusion.given_noise = 0.2"]
  assert exported.asked["diffusion.weighting"] == "min_snr"
  assert exported.asked["sampling.sampler"] == "ddim"
  assert "--set=sampling.sampler=ddim" in shlex.split(exported.command)
  assert not any(name.startswith("model.") for name in exported.asked)


def test_values_of_a_command_are_read_as_they_were():
  asked = {"a": "", "b": "None", "c": "12", "d": "carla/128px", "e": [1, 2], "f": 0.5}
  exported = writing.Exported("f.pt", "FDM", {}, asked, [], "fdm")
  words = shlex.split(exported.command)
  texts = [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
  assert key_values.parse(texts, "set") == asked


def test_raw_parameters_of_a_run_without_averages(tmp_path):
  run = make_run(changed("fdm", train={"ema": []}), tmp_path / "run")
  exported = writing.export(run, str(tmp_path / "out"))
  assert os.path.basename(exported.path) == "model001234.pt"
  found = torch.load(exported.path, weights_only=True)
  key = "input_blocks.0.0.weight"
  expected = workdirs.read_weights(run)[0]["backbone"]["stem"]["kernel"]
  np.testing.assert_array_equal(
    found["state_dict"][key].numpy(), np.transpose(expected, (3, 2, 0, 1))
  )
  assert found["config"]["ema_rate"] == "0.9999"


class TestRefusals:
  @pytest.fixture(autouse=True)
  def run(self, monkeypatch):
    params = random_params(CONFIGS["rvd"])
    self.info = {"config": CONFIGS["rvd"], "step": 3, "ema": "0.99"}
    read = lambda *_, **__: (params, self.info)  # noqa: E731
    monkeypatch.setattr(workdirs, "read_weights", read)

  def test_nothing_is_written_over(self, tmp_path):
    exported = writing.export("run", str(tmp_path))
    before = open(exported.path, "rb").read()
    with pytest.raises(UserError, match=r"_0\.pt: there already"):
      writing.export("run", str(tmp_path))
    assert open(exported.path, "rb").read() == before

  def test_a_failed_write_leaves_no_file(self, tmp_path, monkeypatch):
    def fail(contents, path):
      path.write_bytes(b"half")
      raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"cannot be written \(PytorchStreamWriter"):
      writing.export("run", str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

  def test_a_system_without_a_layout(self, tmp_path):
    self.info["config"] = helpers.load_config()
    with pytest.raises(UserError, match=r"config\.system is 'vdm', of which no layout"):
      writing.export("run", str(tmp_path))

  def test_places_that_are_no_local_folder(self, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in ("gs://bucket/run", str(tmp_path / "file")):
      with pytest.raises(UserError, match="expected a local folder"):
        writing.export("run", out)

  def test_without_torch(self, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'vdm_jax\[torch\]'"):
      writing.export("run", str(tmp_path))


@pytest.mark.integration
def test_the_command_prints_what_the_file_does_not_tell(tmp_path):
  make_run(CONFIGS["ramvid"], tmp_path / "run")

  def vdm_jax(*words, check=True):
    found = subprocess.run(
      [sys.executable, "-m", "vdm_jax", *words],
      cwd=tmp_path,
      env={**os.environ, "PYTHONPATH": str(helpers.ROOT)},
      capture_output=True,
      text=True,
    )
    assert not check or found.returncode == 0, found.stderr[-3000:]
    return found

  words = ["export", "--workdir=run", "--out=theirs", "--format=pytorch"]
  text = vdm_jax(*words).stdout
  assert "exported to theirs/ema_0.99_001234.pt, as RaMViD's authors write" in text
  assert "\n  num_heads = 2\n" in text and "\n  scale_time_dim = 4\n" in text
  *_, command = text.rstrip().splitlines()
  report = vdm_jax(*shlex.split(command)[1:], "--dry_run").stdout
  assert "missing: none\nunexpected: none\nmisshaped: none" in report
  again = vdm_jax(*words, check=False)
  assert again.returncode == 2
  assert again.stderr.rstrip().endswith("there already; nothing is written over")
