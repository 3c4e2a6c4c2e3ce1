"""Reading TorchScript's files without PyTorch: what comes out, and what is refused."""

import pickle
import zipfile

import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.interop import torchscript

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


class Unit(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.conv = torch.nn.Conv3d(3, 4, 2, bias=False)
    self.norm = torch.nn.BatchNorm3d(4)
    self.sizes = [1, 2]

  def forward(self, x):
    return self.norm(self.conv(x))


class Net(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.units = torch.nn.Sequential(Unit(), torch.nn.ReLU())
    self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
    self.register_buffer("part", torch.arange(10)[3:7:2])
    self.register_buffer("short", torch.ones(2).half())
    self.register_buffer("number", torch.tensor(3.0))

  def forward(self, x):
    return self.units(x)


@pytest.fixture
def path(tmp_path):
  torch.jit.save(torch.jit.script(Net()), tmp_path / "net.pt")
  return tmp_path / "net.pt"


def test_arrays_are_those_of_its_state(path):
  found = torchscript.read(path)
  state = torch.jit.load(path).state_dict()
  assert found.keys() == state.keys()
  for name, value in state.items():
    assert found[name].dtype == value.numpy().dtype
    np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)


def test_it_is_told_from_other_files(tmp_path, path):
  assert torchscript.is_one(path)
  torch.save({"a": torch.zeros(2)}, tmp_path / "plain.pt")
  np.savez(tmp_path / "a.npz", a=np.zeros(2))
  (tmp_path / "text.pt").write_text("no zip")
  for name in ("plain.pt", "a.npz", "text.pt"):
    assert not torchscript.is_one(tmp_path / name)


def changed(path, make):
  """The same file with another pickle."""
  other = path.with_name("other.pt")
  with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
    for name in old.namelist():
      data = old.read(name)
      new.writestr(name, make(data) if name.endswith("/data.pkl") else data)
  return other


class Evil:
  def __reduce__(self):
    return (print, ("run",))


def test_code_is_refused_and_not_run(path, capsys):
  other = changed(path, lambda data: pickle.dumps({"a": Evil()}, protocol=2))
  with pytest.raises(UserError, match=r"other.pt: refused: it asks for \S+\.print"):
    torchscript.read(other)
  assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("make", [
  lambda data: data[:40],
  lambda data: b"",
  lambda data: data.replace(b"K\x03K\x02t", b"K\x7fK\x7ft"),  # Beyond its bytes.
], ids=["cut", "empty", "beyond"])  # fmt: skip
def test_a_damaged_file_is_one_error(path, make):
  with pytest.raises(UserError, match="other.pt: a damaged TorchScript file"):
    torchscript.read(changed(path, make))
