"""LPIPS of 8-bit frames, computed for a fixed number of frames at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from vdm_jax.metrics.networks import lpips
from vdm_jax.metrics.weights import Weights, load

_BATCH = 16


class Perceptual:
  """LPIPS by one of its networks.

  Attributes:
    net: 'alexnet' or 'vgg16', whose results cannot be compared.
    weights: the network's weights.
  """

  def __init__(self, net: str = "alexnet", weights: Weights | None = None):
    self.net = net
    self.weights = weights or load(f"lpips_{net}")
    apply = functools.partial(lpips.Lpips(net).apply, {"params": self.weights.params})
    self._program = jax.jit(lambda x, y: apply(_in_unit(x), _in_unit(y)))

  @property
  def min_size(self) -> int:
    """Returns the smallest height and width of frames."""
    return lpips.MIN_SIZE[self.net]

  def __call__(
    self, frames: UInt8[np.ndarray, "n h w c"], truth: UInt8[np.ndarray, "n h w c"]
  ) -> Float32[np.ndarray, " n"]:
    """Computes distances of frames of 1 or 3 channels from true ones.

    Raises:
      UserError: frames are smaller than `min_size`.
    """
    found = []
    for first in range(0, len(frames), _BATCH):
      pair = [x[first : first + _BATCH] for x in (frames, truth)]
      count = len(pair[0])
      # Padded, so that one program serves any number of frames.
      filled = [np.concatenate([x, x[:1].repeat(_BATCH - count, axis=0)]) for x in pair]
      found.append(np.asarray(self._program(*filled))[:count])
    return np.concatenate(found)


def _in_unit(frames: jax.Array) -> jax.Array:
  x = frames.astype(jnp.float32) / 127.5 - 1.0
  return jnp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x
