"""Parameters and clips that golden files give as a formula: an integer hash."""

import numpy as np

_MASK = np.uint64(0xFFFFFFFF)


def hashed(stream: int, index: int, size: int) -> np.ndarray:
  """r(s, k, i) in (-1, 1) for i in 0..size - 1, float64."""
  c = (
    (index + 1) * 0x85EBCA77 + stream * 0xC2B2AE3D + 0x27D4EB2F
  ) & 0xFFFFFFFF  # fmt: skip
  x = (np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B1) + np.uint64(c)) & _MASK
  x ^= x >> np.uint64(16)
  x = (x * np.uint64(0x7FEB352D)) & _MASK
  x ^= x >> np.uint64(15)
  x = (x * np.uint64(0x846CA68B)) & _MASK
  x ^= x >> np.uint64(16)
  return 2 * ((x.astype(np.float64) + 0.5) / 4294967296) - 1


def clips(stream: int, shape) -> np.ndarray:
  """The clips [B, C, T, H, W] of metrics_i3d.json, float32 in [-1, 1]."""
  b, c, t, h, w = np.meshgrid(*map(np.arange, shape), indexing="ij", sparse=True)
  x = 0.5 * np.sin(
    0.061 * (1 + 0.35 * b) * h + 0.043 * w - 0.29 * (1 + 0.5 * b) * t + 1.1 * c
    + 0.7 * stream
  ) + 0.3 * np.cos(
    0.113 * h - 0.097 * (1 + 0.2 * b) * w + 0.41 * t - 0.8 * c
  )  # fmt: skip
  noise = [hashed(stream, 1000 + i, int(np.prod(shape[1:]))) for i in range(shape[0])]
  return (x + 0.2 * np.stack(noise).reshape(shape)).astype(np.float32)


def _table(shapes) -> list[tuple[int, str, tuple[int, ...]]]:
  keys = sorted(shapes, key=str.encode)
  return [(k, key, shapes[key]) for k, key in enumerate(keys)]


def i3d(shapes, stream: int) -> dict[str, np.ndarray]:
  """All parameters of I3D, by PyTorch's names."""
  found = {}
  for k, key, shape in _table(shapes):
    r = hashed(stream, k, int(np.prod(shape)))
    fan_in = int(np.prod(shape[1:]))
    if key == "logits.conv3d.weight":
      value = np.sqrt(3 * 10 / 1024) * r
    elif key == "logits.conv3d.bias":
      value = 0.5 * r
    elif key.endswith("conv3d.weight"):
      value = (np.sqrt(3 * 0.33 / fan_in) * r).reshape(shape[0], -1)
      value = value - value.mean(1, keepdims=True)
    else:
      value = {
        "bn.weight": 1 + 0.3 * r,
        "bn.bias": 0.2 * r,
        "bn.running_mean": 0.1 * r,
        "bn.running_var": 0.15 + 0.1 * r,
      }[".".join(key.rsplit(".", 2)[-2:])]
    found[key] = value.reshape(shape).astype(np.float32)
  return found


def c3d(shapes, stream: int) -> dict[str, np.ndarray]:
  """All parameters of C3D."""
  found = {}
  for k, key, shape in _table(shapes):
    r = hashed(stream, k, int(np.prod(shape)))
    if key == "mean_offset":
      value = -110 + 15 * r
    elif key.endswith(".bias"):
      value = 0.1 * r
    elif key == "conv1a.weight":
      value = np.sqrt(6 / 81) * r / 60
    else:
      value = np.sqrt(6 / np.prod(shape[1:])) * r
    found[key] = value.reshape(shape).astype(np.float32)
  return found


def lpips(shapes, stream: int) -> dict[str, np.ndarray]:
  """The trunk of LPIPS."""
  found = {}
  for k, key, shape in _table(shapes):
    r = hashed(stream, k, int(np.prod(shape)))
    scale = 0.1 if key.endswith(".bias") else np.sqrt(6 / np.prod(shape[1:]))
    found[key] = (scale * r).reshape(shape).astype(np.float32)
  return found
