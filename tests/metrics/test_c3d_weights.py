"""C3D's weights in the files of TGANv2 and StyleGAN-V: they end as one network.

The values are random; the names, shapes and axes are those of the published files.
"""

import shutil

import jax
import numpy as np
import pytest

from vdm_jax.errors import UserError
from vdm_jax.metrics import layouts, weights
from vdm_jax.metrics.networks import c3d

DENSE = {"fc6": (4096, 8192), "fc7": (4096, 4096), "fc8": (101, 4096)}


@pytest.fixture(scope="module")
def published():
  """Arrays by (layer, whether kernel), and the mean; axes as Chainer has them."""
  rng = np.random.default_rng(0)
  shapes, width = {}, 3
  for name, out in c3d.CONVS:
    shapes[name], width = (out, width, 3, 3, 3), out
  arrays = {}
  for name, shape in (shapes | DENSE).items():
    scale = np.float32((2 / np.prod(shape[1:])) ** 0.5)
    scale /= 60 if name == "conv1a" else 1
    arrays[name, True] = scale * rng.standard_normal(shape, np.float32)
    arrays[name, False] = rng.standard_normal(shape[0], np.float32) / 10
  mean = 100 + rng.standard_normal((3, 16, 128, 171), np.float32)
  return arrays, mean


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  yield
  shutil.rmtree(tmp_path)  # Files of 300 MB, which pytest would keep.


@pytest.fixture(scope="module")
def chainer(tmp_path_factory, published):
  folder = tmp_path_factory.mktemp("chainer")
  arrays, mean = published
  named = {f"{name}/{'W' if k else 'b'}": v for (name, k), v in arrays.items()}
  np.savez(folder / "conv3d_deepnetA_ucf.npz", **named)
  np.savez(folder / "mean2.npz", mean=mean)
  yield folder / "conv3d_deepnetA_ucf.npz", folder / "mean2.npz"
  shutil.rmtree(folder)


def tganv2(arrays, mean, clips):
  """TGANv2's C3D up to fc7, in PyTorch: of clips [B, 3, T, H, W] in [-1, 1]."""
  torch = pytest.importorskip("torch")
  net = torch.nn.functional
  of = {key: torch.from_numpy(value) for key, value in arrays.items()}
  b, _, t, h, w = clips.shape
  x = torch.from_numpy(clips).transpose(1, 2).reshape(b * t, 3, h, w)
  x = net.interpolate(x, (112, 112), mode="bilinear", align_corners=True)
  x = x.reshape(b, t, 3, 112, 112).transpose(1, 2).flip(1)
  x = 128 * x + (128 - torch.from_numpy(mean)[:, :, 8:120, 8:120])
  pooled = ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b")
  for name, _ in c3d.CONVS:
    x = net.relu(net.conv3d(x, of[name, True], of[name, False], padding=1))
    if name in pooled:
      size = (1, 2, 2) if name == "conv1a" else 2
      x = net.max_pool3d(x, size, size, ceil_mode=True)
  x = x.flatten(1)
  for name in ("fc6", "fc7"):
    x = net.relu(net.linear(x, of[name, True], of[name, False]))
  return x.numpy()


@pytest.mark.integration
def test_tganv2s_files_give_its_features(published, chainer):
  path, mean = chainer
  kept = weights.import_file("c3d", path, "ucf101", mean)
  assert kept.source == "conv3d_deepnetA_ucf.npz and mean2.npz"
  params = weights.load("c3d-ucf101").params
  rng = np.random.default_rng(1)
  clips = rng.uniform(-1, 1, (1, 3, 16, 24, 32)).astype(np.float32)
  ours = jax.jit(c3d.C3D().apply)(
    {"params": params}, (np.moveaxis(clips, 1, -1) + 1) / 2
  )
  theirs = tganv2(*published, clips)
  assert theirs.std() > 1e-3  # The features say something.
  np.testing.assert_allclose(ours["features"], theirs, rtol=1e-3, atol=1e-4)


def test_without_the_mean_it_is_asked_for(chainer):
  with pytest.raises(
    UserError, match=r"deepnetA_ucf.npz: c3d needs TGANv2's mean.*`also=FILE`"
  ):
    weights.import_file("c3d", chainer[0], "ucf101")


@pytest.mark.parametrize("shape", [(10,), (3, 16, 100, 100), (1, 3, 112, 112)])
def test_a_mean_that_does_not_fit(tmp_path, chainer, shape):
  np.savez(tmp_path / "other.npz", mean=np.zeros(shape))
  with pytest.raises(UserError, match="c3d mean"):
    weights.import_file("c3d", chainer[0], "ucf101", tmp_path / "other.npz")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.integration
def test_torchscript_has_the_same_network(tmp_path, published, chainer):
  """As StyleGAN-V ships it; read without PyTorch, which only makes it here."""
  torch = pytest.importorskip("torch")
  arrays, mean = published
  path, also = chainer

  class Module(torch.nn.Module):
    pass

  whole = Module()
  for name in [name for name, _ in c3d.CONVS] + list(DENSE):
    part = Module()
    for kernel, of in ((True, "weight"), (False, "bias")):
      value = torch.from_numpy(arrays[name, kernel])
      part.register_parameter(of, torch.nn.Parameter(value))
    whole.add_module(name, part)
  whole.register_buffer("mean", torch.from_numpy(mean))
  file = tmp_path / "c3d_ucf101.pt"
  torch.jit.save(torch.jit.script(whole), file)
  found = weights.import_file("c3d", file, "script")
  npz = weights.import_file("c3d", path, "npz", also)
  for key, value in npz.params.items():
    np.testing.assert_array_equal(found.params[key], value, err_msg=key)
  assert set(found.params) == set(npz.params) == set(layouts.shapes("c3d"))
