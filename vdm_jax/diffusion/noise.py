"""Random numbers for samplers and bounds.

Noise comes from a *source*: keys, one per example, or the noise itself. What is drawn
for an example depends on its key, the step and the purpose alone, never on the rest of
the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key

from vdm_jax.errors import UserError

# Keys, one per example, or the noise itself.
Source = Key[Array, " b"] | Float[Array, "..."]


def normal(source: Source, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
  """Draws standard normal noise.

  Args:
    source: keys, one per example; or the noise itself, returned as it is.
    shape: shape of the noise, (B, ...).
  """
  if not jnp.issubdtype(source.dtype, jax.dtypes.prng_key):
    return jnp.broadcast_to(source, shape)
  return jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(source)


def fold(keys: Key[Array, " b"], number: Int[ArrayLike, ""]) -> Key[Array, " b"]:
  """Folds each of the keys with the same number."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def example_keys(
  key: Key[Array, ""] | Key[Array, " b"], batch_size: int
) -> Key[Array, " b"]:
  """Makes one key per example: `key` itself, or one key folded with the row number.

  Raises:
    UserError: `key` is neither one nor `batch_size` `jax.random.key`s.
  """
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    raise UserError(f"key: expected jax.random.key(seed), found dtype {key.dtype}")
  if key.ndim == 0:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))
  if key.shape != (batch_size,):
    raise UserError(f"key: expected one or {batch_size} keys, found {key.shape}")
  return key


def per_step(
  key: Key[Array, ""] | Key[Array, " b"] | None,
  given: Any,
  batch_size: int,
  purpose: int = 0,
) -> Callable[[Int[Array, ""]], Any]:
  """Makes the function that maps the index of a step to its source of noise.

  Args:
    key: a key, or one per example.
    given: noise (or a tree of it) with steps as the first axis; overrides `key`.
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
