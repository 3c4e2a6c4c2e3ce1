"""Features of videos, computed by a network on a full batch of clips at a time.

There is one program per shape of clip: the last batch is filled up, and the fill is cut
off again. Batches are split over the devices of this process.
"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from vdm_jax import sharding
from vdm_jax.errors import UserError
from vdm_jax.metrics import resize
from vdm_jax.metrics.networks import c3d, i3d
from vdm_jax.metrics.weights import Weights, network_of

LAYERS = {"i3d": ("logits", "pool"), "c3d": ("features", "logits")}
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Extractor:
  """A network with its weights and its preprocessing of frames.

  Attributes:
    weights: weights of I3D or C3D.
    resize: resizing rule of `metrics.resize`, for I3D only.
    layer: output of the network, one of `LAYERS`.
    bn_eps: epsilon of I3D's batch norms.
    dtype: dtype of I3D's convolutions.
    batch_size: clips at a time, raised to a multiple of the devices.
  """

  weights: Weights
  resize: str = "tf1_legacy"
  layer: str = "logits"
  bn_eps: float = 1e-3
  dtype: str = "float32"
  batch_size: int = 4

  def __post_init__(self):
    network = network_of(self.weights.name)
    if network not in LAYERS:
      raise UserError(f"features: expected weights of I3D or C3D, found {network}")
    if self.layer not in LAYERS[network]:
      raise UserError(
        f"layer {self.layer!r}: {network} has {', '.join(LAYERS[network])}"
      )
    if self.dtype not in DTYPES:
      raise UserError(f"dtype: expected one of {', '.join(DTYPES)}, found {self.dtype}")
    object.__setattr__(self, "_network", network)

  @functools.cached_property
  def _program(self):
    mesh = sharding.make_mesh(devices=jax.local_devices())
    rows, whole = sharding.batch(mesh), sharding.replicated(mesh)
    if self._network == "i3d":
      dtype = jnp.dtype(self.dtype)
      net = i3d.InceptionI3D(bn_eps=self.bn_eps, dtype=dtype)

      def prepare(clips):
        return resize.to_unit(clips, i3d.SIZE, self.resize)

    else:
      net = c3d.C3D()

      def prepare(clips):
        return clips.astype(jnp.float32) / 255.0

    def apply(params, clips):
      return net.apply({"params": params}, prepare(clips))[self.layer]

    program = jax.jit(apply, in_shardings=(whole, rows), out_shardings=rows)
    params = jax.device_put(self.weights.params, whole)
    return functools.partial(program, params)

  def describe(self) -> dict[str, Any]:
    """Describes network and weights for a result."""
    return {
      "network": self._network,
      "layer": self.layer,
      "resize": self.resize,
      "bn_eps": self.bn_eps,
      "dtype": self.dtype,
      **self.weights.describe(),
    }

  def __call__(
    self, clips: Iterable[UInt8[np.ndarray, "t h w c"]]
  ) -> Float[np.ndarray, "n d"]:
    """Computes features of clips of equal shape, in order.

    Raises:
      UserError: clips are not 8-bit, differ in shape, are too short, or there are none.
    """
    found = [features for batch in self.batches(clips) for features in batch]
    if not found:
      raise UserError("features: expected clips, found none")
    return np.stack(found)

  def batches(
    self, clips: Iterable[UInt8[np.ndarray, "t h w c"]]
  ) -> Iterator[Float[np.ndarray, "n d"]]:
    """Yields features of clips in parts."""
    size = self._full_size()
    batch: list[np.ndarray] = []
    for clip in clips:
      batch.append(in_rgb(clip))
      if batch[0].shape != batch[-1].shape:
        raise UserError(
          f"features: expected clips of one shape, found {batch[0].shape} and "
          f"{batch[-1].shape} (frames, height, width, channels)"
        )
      if len(batch) == size:
        yield self._run(batch)
        batch = []
    if batch:
      yield self._run(batch)

  def _full_size(self) -> int:
    """Returns the batch size, rounded up to a multiple of the devices."""
    devices = jax.local_device_count()
    return -(-self.batch_size // devices) * devices

  def _run(self, batch: list[np.ndarray]) -> np.ndarray:
    filled = batch + [batch[-1]] * (self._full_size() - len(batch))
    return np.asarray(self._program(np.stack(filled)))[: len(batch)]


def in_rgb(clip: UInt8[np.ndarray, "t h w c"]) -> UInt8[np.ndarray, "t h w 3"]:
  """Converts a clip of 1 or 3 channels to three; gray is repeated.

  Raises:
    UserError: the clip is not 8-bit, or has other channels.
  """
  if clip.dtype != np.uint8:
    raise UserError(f"features: expected 8-bit frames, found {clip.dtype}")
  if clip.ndim != 4 or clip.shape[-1] not in (1, 3):
    raise UserError(
      f"features: expected frames of 1 or 3 channels, found clips of shape {clip.shape}"
    )
  return np.repeat(clip, 3, axis=-1) if clip.shape[-1] == 1 else clip
