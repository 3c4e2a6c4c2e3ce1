"""Embeddings by which adaptive plans compare frames.

An embedding is a function from frames, float32 [n, H, W, C] in [-1, 1], to vectors
[n, D]; two frames differ by the squared distance of their vectors.
"""

from collections.abc import Callable

import numpy as np

from vdm_jax import names
from vdm_jax.errors import UserError

Embedding = Callable[[np.ndarray], np.ndarray]

_SIDE = 16  # Pixels of a side after down-sampling.
_REGISTRY: names.Registry[Embedding] = names.Registry("embedding")


def register(name: str, embed: Embedding) -> None:
  """Makes an embedding nameable."""
  _REGISTRY.register(name, embed)


def get(name: str | Embedding) -> Embedding:
  """Finds an embedding by its name, `package.module:function` or `file.py:function`.

  Raises:
    UserError: there is no such embedding.
  """
  if callable(name):
    return name
  embed = _REGISTRY.find_or_import(name)
  if not callable(embed):
    raise UserError(f"embedding {name!r}: expected a function of frames")
  return embed


def pixels(frames: np.ndarray) -> np.ndarray:
  """Computes means over 16 x 16 areas (fewer if a frame has fewer pixels), flattened.

  They are scaled so that a squared distance is the mean squared difference.

  Args:
    frames: [n, H, W, C].

  Returns:
    float32 [n, D].
  """
  small = np.asarray(frames, np.float32)
  for axis in (1, 2):
    size = small.shape[axis]
    edges = np.arange(min(size, _SIDE)) * size // min(size, _SIDE)
    shape = np.ones(small.ndim, int)
    shape[axis] = -1
    widths = np.diff([*edges, size]).astype(np.float32).reshape(shape)
    small = np.add.reduceat(small, edges, axis) / widths
  flat = small.reshape(len(small), -1)
  return flat / np.float32(np.sqrt(flat.shape[1]))


register("pixels", pixels)
