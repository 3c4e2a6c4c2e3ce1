"""Measured speeds of the devices at hand: a matrix product and a copy."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from vdm_jax import sharding

_COPIED = 128 << 20  # Bytes per device, more than a cache holds.
_SECONDS = 0.5  # Duration of a measurement.


def rates() -> dict[str, Any]:
  """Measures all devices together.

  Returns:
    dtype: dtype of both measurements, bfloat16 except on CPU.
    matmul_tflops: speed of a product of square matrices in TFLOP/s, a multiply-add as
      two.
    copy_gbs: speed of a copy in GB/s, read and written.
  """
  accelerator = jax.devices()[0].platform != "cpu"
  dtype = jnp.bfloat16 if accelerator else jnp.float32
  mesh = sharding.make_mesh()
  size = 8192 if accelerator else 1024
  # Noise, as with equal numbers a chip draws less power and is faster than in training.
  rows = _noise((size * mesh.size, size), dtype, sharding.batch(mesh))
  square = _noise((size, size), dtype, sharding.replicated(mesh))
  product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
  shape = (mesh.size, _COPIED // rows.dtype.itemsize)
  many = jax.device_put(jnp.ones(shape, dtype), sharding.batch(mesh))
  flops = 2 * size**2 * rows.shape[0]
  return {
    "dtype": jnp.dtype(dtype).name,
    "matmul_tflops": flops / _timed(lambda: product(rows, square)) / 1e12,
    "copy_gbs": 2 * many.nbytes / _timed(lambda: copy(many)) / 1e9,
  }


def _noise(shape, dtype, placement):
  make = jax.jit(
    lambda key: jax.random.normal(key, shape, dtype), out_shardings=placement
  )
  return make(jax.random.key(0))


def _timed(call) -> float:
  """Times a call: the fastest of those made in a short while."""
  jax.block_until_ready(call())  # Compiles it first.
  best, until = float("inf"), time.perf_counter() + _SECONDS
  while time.perf_counter() < until or best == float("inf"):
    start = time.perf_counter()
    jax.block_until_ready(call())
    best = min(best, time.perf_counter() - start)
  return best
