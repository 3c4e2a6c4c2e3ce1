"""C3D (Tran et al. 2015), fine-tuned on UCF-101, for the Inception score of videos.

TGANv2 (Saito et al. 2020) and VDM use it with Sports-1M weights and 101 classes; the
4096 features before the logits give their "FID".
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32

from vdm_jax.errors import UserError

NUM_CLASSES = 101
FEATURES = 4096
FRAMES = 16
SIZE = 112
# Name and width of the convolutions; a pool follows the last one of each group.
CONVS = (
  ("conv1a", 64), ("conv2a", 128), ("conv3a", 256), ("conv3b", 256), ("conv4a", 512),
  ("conv4b", 512), ("conv5a", 512), ("conv5b", 512),
)  # fmt: skip
_POOLED = ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b")


class C3D(nn.Module):
  """The network C3D, up to its logits."""

  @nn.compact
  def __call__(
    self, clips: Float[ArrayLike, "b t h w c"]
  ) -> dict[str, Float32[Array, "b _d"]]:
    """Computes features and logits of clips.

    Args:
      clips: float [B, 16, H, W, 3] in [0, 1], RGB; resized to 112x112 with aligned
        corners.

    Returns:
      `logits` [B, 101] and the `features` [B, 4096] of fc7, float32.

    Raises:
      UserError: clips have another length, or are not in RGB.
    """
    if clips.shape[1] != FRAMES or clips.shape[-1] != 3:
      raise UserError(
        f"C3D: expected clips of {FRAMES} frames in RGB, found {clips.shape[1]} frames "
        f"of {clips.shape[-1]} channels"
      )
    x = _aligned_resize(clips.astype(jnp.float32))[..., ::-1]  # To BGR.
    shape = (FRAMES, SIZE, SIZE, 3)
    x = 255.0 * x + self.param("mean_offset", nn.initializers.zeros, shape)
    for name, width in CONVS:
      x = nn.relu(self._conv(name, width, x))
      if name not in _POOLED:
        continue
      if name == "conv5b":  # Its pool rounds up, from 7 places to 4.
        x = jnp.pad(x, [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)])
      window = (1, 2, 2) if name == "conv1a" else (2, 2, 2)
      x = nn.max_pool(x, window, window)
    x = x.reshape(len(x), -1)
    x = nn.relu(self._dense("fc6", FEATURES, x))
    features = nn.relu(self._dense("fc7", FEATURES, x))
    return {"features": features, "logits": self._dense("fc8", NUM_CLASSES, features)}

  def _conv(self, name, width, x):
    shape = (3, 3, 3, x.shape[-1], width)
    kernel = self.param(f"{name}_kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param(f"{name}_bias", nn.initializers.zeros, (width,))
    return bias + jax.lax.conv_general_dilated(
      x,
      kernel,
      (1, 1, 1),
      [(1, 1)] * 3,
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
      precision=jax.lax.Precision.HIGHEST,
    )

  def _dense(self, name, width, x):
    shape = (x.shape[-1], width)
    kernel = self.param(f"{name}_kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param(f"{name}_bias", nn.initializers.zeros, (width,))
    return jnp.matmul(x, kernel, precision=jax.lax.Precision.HIGHEST) + bias


def _aligned_resize(clips: jax.Array) -> jax.Array:
  """Resizes bilinearly with aligned corners: place o is at o (in - 1) / (out - 1)."""
  for axis in (2, 3):
    size = clips.shape[axis]
    place = jnp.arange(SIZE) * (size - 1) / (SIZE - 1)
    low = jnp.clip(jnp.floor(place).astype(int), 0, max(size - 2, 0))
    weight = (place - low).reshape((-1,) + (1,) * (clips.ndim - axis - 1))
    high = jnp.minimum(low + 1, size - 1)
    before, after = jnp.take(clips, low, axis), jnp.take(clips, high, axis)
    clips = (1 - weight) * before + weight * after
  return clips
