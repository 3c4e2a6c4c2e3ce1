"""Conversion of weight files of other codes to the names and axes of our networks.

Arrays come as a flat mapping by name. A layout is recognised by its names; arrays that
are missing, left over or of another shape are reported in one error.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.metrics.networks import c3d, i3d, lpips

Flat = Mapping[str, np.ndarray]
# Training data of other I3D checkpoints, by their number of classes.
_OTHER_CLASSES = {157: "Charades", 600: "Kinetics-600", 700: "Kinetics-700"}


@functools.cache
def shapes(network: str) -> dict[str, tuple[int, ...]]:
  """Lists names and shapes of a network's parameters."""
  module, arguments = _MODULES[network]
  key = jax.random.key(0)
  tree = jax.eval_shape(lambda: module.init(key, *map(jnp.zeros, arguments)))["params"]
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {"/".join(part.key for part in path): tuple(leaf.shape) for path, leaf in flat}


_CLIP = (1, i3d.MIN_FRAMES, i3d.SIZE, i3d.SIZE, 3)
_PICTURE = (1, 64, 64, 3)
_MODULES: dict[str, tuple[Any, tuple[tuple[int, ...], ...]]] = {
  "i3d": (i3d.InceptionI3D(), (_CLIP,)),
  "c3d": (c3d.C3D(), ((1, c3d.FRAMES, c3d.SIZE, c3d.SIZE, 3),)),
  "lpips_alexnet": (lpips.Lpips("alexnet"), (_PICTURE, _PICTURE)),
  "lpips_vgg16": (lpips.Lpips("vgg16"), (_PICTURE, _PICTURE)),
}
NETWORKS = tuple(_MODULES)


def convert(network: str, flat: Flat, name: str) -> dict[str, Any]:
  """Converts the arrays of a file to our parameters.

  Args:
    network: name of the network.
    flat: the arrays by name.
    name: name of the file, for error messages.

  Raises:
    UserError: no layout fits, or an array is missing, left over or of another shape.
  """
  flat = {_without_prefix(key): value for key, value in flat.items()}
  flat = {k: v for k, v in flat.items() if not k.endswith("num_batches_tracked")}
  params: dict[str, Any] = {}
  try:
    found = next(filter(None, (read(flat) for read in _LAYOUTS[network])), None)
    for key, value in (found or {}).items():
      *path, last = key.split("/")
      inner = params
      for part in path:
        inner = inner.setdefault(part, {})
      inner[last] = _turn(key, lambda x: np.asarray(x, np.float32), value)
  except _Misfit as error:
    raise UserError(f"{name}: {network} {error}") from error
  if not found:
    some = ", ".join(sorted(flat)[:3]) or "nothing"
    raise UserError(
      f"{name}: no layout of {network} that is known; it holds {some} ..."
    )
  for key, what in _APART.items():
    if key in shapes(network) and key not in found:
      raise UserError(f"{name}: {network} needs {what} as well (`also=FILE`)")
  check(network, params, name)
  return params


# Parameters that are published in a separate file.
_APART = {
  "mean_offset": "TGANv2's mean, mean2.npz,",
  "lin_0": "LPIPS' heads, alex.pth or vgg.pth of the package lpips,",
}


class _Misfit(ValueError):
  """Raised for an array that cannot be converted to ours."""


def _turn(key: str, turn: Callable[[Any], np.ndarray], value: Any) -> np.ndarray:
  try:
    return turn(value)
  except (TypeError, ValueError, IndexError) as error:  # Also NumPy's AxisError.
    what = f"{np.asarray(value).dtype} {np.shape(value)}"
    raise _Misfit(f"{key}: found {what}, which does not fit") from error


def check(network: str, params: Mapping[str, Any], name: str) -> None:
  """Checks that parameters are those of the network.

  Raises:
    UserError: an array is missing, left over or of another shape.
  """
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  found = {"/".join(p.key for p in path): np.shape(leaf) for path, leaf in flat}
  expected = shapes(network)
  classes = found.get("logits_bias", (i3d.NUM_CLASSES,))[0]
  if network == "i3d" and classes != i3d.NUM_CLASSES:
    of = f" ({_OTHER_CLASSES[classes]})" if classes in _OTHER_CLASSES else ""
    raise UserError(
      f"{name}: expected the {i3d.NUM_CLASSES} classes of Kinetics-400, which FVD is "
      f"of, found {classes}{of}"
    )
  for key in sorted(expected.keys() | found.keys()):
    mine, theirs = expected.get(key), found.get(key)
    if mine != theirs:
      raise UserError(f"{name}: {network} {key}: expected {mine}, found {theirs}")


def _without_prefix(key: str) -> str:
  for prefix in ("module.", "RGB/inception_i3d/", "params/", "batch_stats/"):
    key = key.removeprefix(prefix)
  return key


def _conv(value: np.ndarray) -> np.ndarray:
  """Transposes PyTorch's [O, I, ...] to [..., I, O]."""
  value = np.asarray(value)
  return np.moveaxis(value, (0, 1), (-1, -2))


def _flat_vector(value: np.ndarray) -> np.ndarray:
  return np.asarray(value).reshape(-1)


# I3D: how each kind of file names a unit, and the parts of it.
_SHORT = {
  "Branch_0/Conv3d_0a_1x1": "b0",
  "Branch_1/Conv3d_0a_1x1": "b1a",
  "Branch_1/Conv3d_0b_3x3": "b1b",
  "Branch_2/Conv3d_0a_1x1": "b2a",
  "Branch_2/Conv3d_0a_3x3": "b2a",  # In Mixed_5b, a slip of the original.
  "Branch_2/Conv3d_0b_3x3": "b2b",
  "Branch_3/Conv3d_0b_1x1": "b3b",
}
_HASSONY = {
  "branch_0": "b0",
  "branch_1.0": "b1a",
  "branch_1.1": "b1b",
  "branch_2.0": "b2a",
  "branch_2.1": "b2b",
  "branch_3.1": "b3b",
}
Part = tuple[str, Callable[[np.ndarray], np.ndarray]]
_FLAX_PARTS: dict[str, Part] = {
  "Conv_0/kernel": ("kernel", np.asarray),
  "BatchNorm_0/bias": ("bias", _flat_vector),
  "BatchNorm_0/scale": ("scale", _flat_vector),
  "BatchNorm_0/mean": ("mean", _flat_vector),
  "BatchNorm_0/var": ("var", _flat_vector),
}
_TF_PARTS: dict[str, Part] = {
  "conv_3d/w": ("kernel", np.asarray),
  "batch_norm/beta": ("bias", _flat_vector),
  "batch_norm/moving_mean": ("mean", _flat_vector),
  "batch_norm/moving_variance": ("var", _flat_vector),
}


def _torch_parts(conv: str, norm: str) -> dict[str, Part]:
  return {
    f"{conv}.weight": ("kernel", _conv),
    f"{norm}.weight": ("scale", _flat_vector),
    f"{norm}.bias": ("bias", _flat_vector),
    f"{norm}.running_mean": ("mean", _flat_vector),
    f"{norm}.running_var": ("var", _flat_vector),
  }


def _units(flat: Flat, parts: Mapping[str, Part], rename) -> dict[str, np.ndarray]:
  """Converts the arrays of I3D's units and keeps the others as they are."""
  found = {}
  for key, value in flat.items():
    for part, (ours, turn) in parts.items():
      if key.endswith(part):
        unit = rename(key[: -len(part)].rstrip("./"))
        found[f"{unit}/{ours}"] = _turn(key, turn, value)
        break
    else:
      found[key] = value
  for unit in {key.rpartition("/")[0] for key in found if key.endswith("/kernel")}:
    # The batch norms of TensorFlow's I3D have no scale.
    found.setdefault(f"{unit}/scale", np.ones_like(found.get(f"{unit}/bias", 1.0)))
  return found


def _move(flat: Flat, moves: Mapping[str, tuple[str, Any]]) -> dict[str, np.ndarray]:
  """Renames and transposes some arrays, and keeps the others."""
  found = dict(flat)
  for key, (ours, turn) in moves.items():
    if key in found:
      found[ours] = _turn(key, turn, found.pop(key))
  return found


def _matrix(value: np.ndarray) -> np.ndarray:
  """Reshapes a 1x1x1 kernel [1, 1, 1, I, O] to a matrix."""
  return np.asarray(value).reshape(np.shape(value)[-2:])


def _slashes(unit: str) -> str:
  block, _, branch = unit.partition("/")
  return f"{block}/{_SHORT.get(branch, branch)}" if branch else block


def _i3d_layout(
  mark: str,
  logits: str,
  parts: Mapping[str, Part],
  rename: Callable[[str], str],
  names: tuple[str, str] = ("weight", "bias"),
  turn: Callable[[np.ndarray], np.ndarray] = _conv,
) -> Callable[[Flat], dict[str, np.ndarray] | None]:
  """Makes a reader of I3D's arrays under other names.

  Args:
    mark: name of an array that only this layout has.
    logits: prefix of the last convolution's arrays.
    parts: parts of a unit.
    rename: maps a unit's name to ours.
    names: names of the last convolution's kernel and bias.
    turn: transposes a kernel to our axes.
  """
  moves = {
    f"{logits}{names[0]}": ("logits_kernel", lambda value: _matrix(turn(value))),
    f"{logits}{names[1]}": ("logits_bias", _flat_vector),
  }

  def read(flat: Flat):
    return _units(_move(flat, moves), parts, rename) if mark in flat else None

  return read


def _dots(unit: str) -> str:
  return unit.replace(".", "/")


def _hassony(unit: str) -> str:
  block, _, branch = unit.partition(".")
  block = block[0].upper() + block[1:]
  return f"{block}/{_HASSONY.get(branch, branch)}" if branch else block


_I3D = (
  _i3d_layout(
    "Conv3d_1a_7x7/Conv_0/kernel",
    "Logits/Conv3d_0c_1x1/Conv_0/",
    _FLAX_PARTS,
    _slashes,
    ("kernel", "bias"),
    np.asarray,
  ),
  _i3d_layout(
    "Conv3d_1a_7x7/conv_3d/w",
    "Logits/Conv3d_0c_1x1/conv_3d/",
    _TF_PARTS,
    _slashes,
    ("w", "b"),
    np.asarray,
  ),
  _i3d_layout(
    "Conv3d_1a_7x7.conv3d.weight",
    "logits.conv3d.",
    _torch_parts("conv3d", "bn"),
    _dots,
  ),
  _i3d_layout(
    "conv3d_1a_7x7.conv3d.weight",
    "conv3d_0c_1x1.conv3d.",
    _torch_parts("conv3d", "batch3d"),
    _hassony,
  ),
)


def _lpips_flax(flat: Flat):
  if not any(key.startswith("NetLinLayer_0/") for key in flat):
    return None
  moves = {}
  for key in flat:
    conv = re.fullmatch(r"(?:AlexNet|VGG16)_0/Conv_(\d+)/(kernel|bias)", key)
    lin = re.fullmatch(r"NetLinLayer_(\d+)/Conv_0/kernel", key)
    if conv:
      moves[key] = (f"conv_{conv[1]}_{conv[2]}", np.asarray)
    elif lin:
      moves[key] = (f"lin_{lin[1]}", _flat_vector)
  return _move(flat, moves)


# Convolutions of the trunks, as lpips.LPIPS and torchvision name them.
_TRUNK = re.compile(r"(?:net\.slice\d|features)\.(\d+)\.(weight|bias)")


def _lpips_torch(flat: Flat):
  """Reads the state of `lpips.LPIPS`, or torchvision's trunk and lpips' heads."""
  trunk = {key: found for key in flat if (found := _TRUNK.fullmatch(key))}
  if not trunk:
    return None
  places = sorted({int(found[1]) for found in trunk.values()})
  moves = {}
  for key, found in trunk.items():
    number = places.index(int(found[1]))
    if found[2] == "weight":
      moves[key] = (f"conv_{number}_kernel", _conv)
    else:
      moves[key] = (f"conv_{number}_bias", np.asarray)
  heads = {k: k for k in flat if re.fullmatch(r"lin\d\.model\.1\.weight", k)}
  moves |= {k: (f"lin_{k[3]}", _flat_vector) for k in heads}
  # Duplicates of the heads, and torchvision's classifier.
  rest = re.compile(r"lins\.|scaling_layer\.|classifier\.")
  return _move({k: v for k, v in flat.items() if not rest.match(k)}, moves)


def _c3d_torch(flat: Flat):
  return _c3d(flat, "weight", "bias", ".") if "conv1a.weight" in flat else None


def _c3d_chainer(flat: Flat):
  """Reads TGANv2's conv3d_deepnetA_ucf.npz."""
  return _c3d(flat, "W", "b", "/") if "conv1a/W" in flat else None


def _c3d(flat: Flat, weight: str, bias: str, dot: str):
  flat = dict(flat)
  if "mean" in flat:
    # For x in [0, 1] TGANv2's input is 256 x - mean, ours 255 x + offset. The two agree
    # if the first kernel is scaled by 256 / 255; padding remains zero.
    first = f"conv1a{dot}{weight}"
    flat[first] = _turn(first, lambda v: np.asarray(v) * (256 / 255), flat[first])
    flat["mean_offset"] = _turn("mean", _mean_offset, flat.pop("mean"))
  moves = {"mean_offset": ("mean_offset", lambda v: np.moveaxis(np.asarray(v), 0, -1))}
  for name, _ in c3d.CONVS:
    moves[f"{name}{dot}{weight}"] = (f"{name}_kernel", _conv)
    moves[f"{name}{dot}{bias}"] = (f"{name}_bias", np.asarray)
  for name in ("fc6", "fc7", "fc8"):
    turn = _first_dense if name == "fc6" else np.transpose
    moves[f"{name}{dot}{weight}"] = (f"{name}_kernel", turn)
    moves[f"{name}{dot}{bias}"] = (f"{name}_bias", np.asarray)
  return _move(flat, moves)


def _mean_offset(mean: np.ndarray) -> np.ndarray:
  """Makes our offset from TGANv2's BGR mean [3, 16, 128, W], cropped as in its code."""
  mean = np.asarray(mean, np.float64)
  mean = mean.reshape(mean.shape[-4:])
  return -mean[:, :, 8:120, 8:120] * (255 / 256)


def _first_dense(value: np.ndarray) -> np.ndarray:
  """Reorders the inputs of fc6 from C, T, H, W to T, H, W, C."""
  value = np.asarray(value)
  value = value.reshape(len(value), 512, 1, 4, 4)
  return value.transpose(2, 3, 4, 1, 0).reshape(-1, len(value))


_LAYOUTS: dict[str, tuple[Callable[[Flat], Any], ...]] = {
  "i3d": _I3D,
  "c3d": (_c3d_torch, _c3d_chainer),
  "lpips_alexnet": (_lpips_flax, _lpips_torch),
  "lpips_vgg16": (_lpips_flax, _lpips_torch),
}
