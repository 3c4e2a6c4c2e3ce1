"""Reading PyTorch's files: what comes out, and what is refused."""

import collections
import os

import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.interop import torch_file

torch = pytest.importorskip("torch")


class Malicious:
  """An object whose unpickling makes a folder."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.fixture
def contents():
  weight = torch.arange(6, dtype=torch.float32).reshape(2, 3)
  return {
    "state_dict": collections.OrderedDict(
      weight=torch.nn.Parameter(weight),
      half=weight.half(),
      brain=weight.bfloat16(),
      turned=weight.T,
      count=torch.tensor(3),
    ),
    "config": {"channels": 128, "rates": [1, 2.5], "name": "x", "none": None},
    "step": 7,
  }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before_1.6"])
def test_reads_nested_contents(tmp_path, contents, zipped):
  path = tmp_path / "model.pt"
  torch.save(contents, path, _use_new_zipfile_serialization=zipped)
  found = torch_file.read(str(path))
  assert found["config"] == contents["config"]
  assert found["step"] == 7
  weight = np.arange(6, dtype=np.float32).reshape(2, 3)
  state = found["state_dict"]
  for name in ("weight", "half", "brain"):
    assert state[name].shape == (2, 3)
    assert np.asarray(state[name]).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(state[name]), weight)
  np.testing.assert_array_equal(np.asarray(state["turned"], np.float32), weight.T)
  assert np.asarray(state["count"]) == 3


def test_shapes_alone(tmp_path):
  # One element on disk, though 40 GB were they read.
  path = tmp_path / "large.pt"
  torch.save({"weight": torch.zeros(()).expand(100_000, 100_000)}, path)
  found = torch_file.read(str(path), shapes_only=True)
  assert found["weight"].shape == (100_000, 100_000)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before_1.6"])
def test_code_in_a_file_is_not_run(tmp_path, zipped):
  made = tmp_path / "made"
  path = tmp_path / "evil.pt"
  contents = {"weight": torch.zeros(2), "config": Malicious(made)}
  torch.save(contents, path, _use_new_zipfile_serialization=zipped)
  for shapes_only in (True, False):
    with pytest.raises(UserError, match=r"evil\.pt: refused.*nothing of it was run"):
      torch_file.read(str(path), shapes_only)
  assert not made.exists()
  # The file does what it says when it is read the careless way.
  torch.load(path, weights_only=False)
  assert made.exists()


@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.95])
def test_truncated(tmp_path, contents, kept):
  path = tmp_path / "cut.pt"
  torch.save(contents, path)
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * kept) if kept < 1 else kept])
  with pytest.raises(UserError, match=r"cut\.pt: not a PyTorch checkpoint"):
    torch_file.read(str(path))


def test_not_a_checkpoint(tmp_path):
  path = tmp_path / "notes.pt"
  path.write_text("these are not weights\n" * 20)
  with pytest.raises(UserError, match=r"notes\.pt: not a PyTorch checkpoint"):
    torch_file.read(str(path))
  with pytest.raises(UserError, match="no such file"):
    torch_file.read(str(tmp_path / "missing.pt"))
  with pytest.raises(UserError, match="is a folder"):
    torch_file.read(str(tmp_path))


def test_without_torch(monkeypatch, tmp_path):
  monkeypatch.setitem(__import__("sys").modules, "torch", None)
  with pytest.raises(UserError, match=r"vdm_jax\[torch\]"):
    torch_file.read(str(tmp_path / "model.pt"))
