"""Random numbers of samplers and bounds.

Noise comes from a *source*: keys, one per example, or the noise itself. What is drawn
for an example belongs to its key, its step and its purpose alone, never to the batch
around it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vdm_jax.errors import UserError


def normal(source: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws standard normal noise.

  Args:
    source: keys, one per example [B]; or the noise itself, returned as it is.
    shape: (B, ...).
  """
  if not jnp.issubdtype(source.dtype, jax.dtypes.prng_key):
    return jnp.broadcast_to(source, shape)
  return jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(source)


def fold(keys: jax.Array, number: jax.Array | int) -> jax.Array:
  """Folds each of the keys [B] with the same number."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def example_keys(key: jax.Array, batch_size: int) -> jax.Array:
  """Makes keys [B]: those given, or one key folded with the position in the batch.

  Raises:
    UserError: not `jax.random.key`s, or not one or `batch_size` of them.
  """
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    raise UserError(f"key: expected jax.random.key(seed), found dtype {key.dtype}")
  if key.ndim == 0:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))
  if key.shape != (batch_size,):
    raise UserError(f"key: expected one or {batch_size} keys, found {key.shape}")
  return key


def per_step(
  key: jax.Array | None, given: Any, batch_size: int, purpose: int = 0
) -> Callable[[jax.Array], Any]:
  """Returns a function that maps the index of a step to its source of noise.

  Args:
    key: a key, or one per example [B].
    given: noise with the steps as first axis (or a tree of such); goes before `key`.
    batch_size: B.
    purpose: tells two uses of the same key apart.

  Returns:
    A function of the index; it returns None if there is neither key nor noise.
  """
  if given is not None:
    return lambda index: jax.tree.map(lambda a: jnp.asarray(a)[index], given)
  if key is None:
    return lambda index: None
  keys = fold(example_keys(key, batch_size), purpose)
  return lambda index: fold(keys, index)
