"""2-D convolution with its own kernel gradient on CPU.

XLA:CPU computes outputs and input gradients of a convolution near the peak rate of the
cores, but kernel gradients several times slower: a whole batch of gradient planes is
then one operand, which every tile of the result streams through anew and which fits no
cache. Two other formulations of the same sum avoid that:

- `rows`: a sum over some output rows at a time, so that an operand stays in the cache
  of a core.
- `matmul`: one matrix product of x, shifted in height, and dy, shifted in width. The
  nine products of a 3x3 kernel cost three copies of each operand; patches would cost
  nine of x.

The choice is made while a program is lowered, not by the default backend: a CPU host
also compiles for TPU, where plain convolutions are best. `benchmarks/conv.py` measures
the timings.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Bytes of dy in a step of `rows`; with as much of x they fit a 2 MB level-2 cache.
_ROWS_BYTES = 1 << 20
# Bytes of dy below which XLA's own gradient is as fast (half the batch fits a core).
_PLAIN_BYTES = 2 << 20
# Channels from which XLA's own gradient is as fast: enough work per value loaded.
_WIDE = 256
# Each step of `rows` is one more convolution to compile.
_MAX_STEPS = 8

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
  x: Float[ArrayLike, "n h w i"],
  kernel: Float[ArrayLike, "kh kw i o"],
  *,
  strides: Sequence[int] = (1, 1),
  padding: str | Sequence[tuple[int, int]],
) -> Float[Array, "n h_out w_out o"]:
  """Computes a convolution (cross-correlation) over height and width.

  Derivatives are reverse-mode only (`jax.vjp`, `jax.grad`), on every device.

  Args:
    x: images.
    kernel: the kernel, of x's dtype.
    strides: strides of height and width.
    padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).

  Returns:
    The images' convolution, of x's dtype; sums are in float32 or wider.
  """
  strides = tuple(strides)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  return _conv(x, kernel, strides, tuple((int(a), int(b)) for a, b in padding))


def _plain(x: jax.Array, kernel: jax.Array, strides, pads: Pads) -> jax.Array:
  return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)


_conv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(x, kernel, strides, pads):
  return _plain(x, kernel, strides, pads), (x, kernel)


def _backward(strides, pads, residuals, dy):
  x, kernel = residuals
  shape = dict(shape=x.shape, strides=strides, pads=pads)
  dx = lax.platform_dependent(
    kernel,
    dy,
    cpu=functools.partial(_input_gradient_cpu, **shape),
    default=functools.partial(_input_gradient, **shape),
  )
  plain = functools.partial(
    plain_gradient, shape=kernel.shape, strides=strides, pads=pads
  )
  on_cpu = cpu_gradient(x.shape, kernel.shape, dy.shape, strides)
  if on_cpu is plain_gradient:
    return dx, plain(x, dy)
  fast = functools.partial(on_cpu, shape=kernel.shape, strides=strides, pads=pads)
  return dx, lax.platform_dependent(x, dy, cpu=fast, default=plain)


_conv.defvjp(_forward, _backward)


def _input_gradient(kernel, dy, *, shape, strides, pads) -> jax.Array:
  """Computes the gradient with respect to x, of shape `shape`, as JAX does."""
  x = jax.ShapeDtypeStruct(shape, dy.dtype)
  # A convolution is linear in x, so its value is neither needed nor computed.
  return jax.linear_transpose(lambda x: _plain(x, kernel, strides, pads), x)(dy)[0]


def _input_gradient_cpu(kernel, dy, *, shape, strides, pads) -> jax.Array:
  """Computes the same with the transposed kernel kept in memory.

  In the body of a loop (gradient-guided sampling, micro-batches) XLA:CPU would fold the
  exchange of the kernel's last axes into the convolution and take a slow path.
  """
  turned = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
  padding = []
  for axis, (low, _) in enumerate(pads):
    size, stride = kernel.shape[axis], strides[axis]
    before = size - 1 - low
    spread = (dy.shape[1 + axis] - 1) * stride + 1
    padding.append((before, shape[1 + axis] - spread - before + size - 1))
  return lax.conv_general_dilated(
    dy, turned, (1, 1), padding, lhs_dilation=strides, dimension_numbers=_LAYOUT
  )


def cpu_gradient(x_shape, kernel_shape, dy_shape, strides):
  """Chooses the formulation of the kernel gradient for CPU.

  Shapes are those of the whole batch, as a shard's share is not known yet. The rule is
  tuned for two to four cores that share it.

  Returns:
    `plain_gradient`, `rows_gradient` or `matmul_gradient`.
  """
  kh, kw, _, features = kernel_shape
  n, h, w, _ = dy_shape
  size = 4 * n * h * w * features
  if kh * kw <= 4 and tuple(strides) == (1, 1):
    return matmul_gradient  # At most two copies of an operand.
  if size <= _PLAIN_BYTES or features >= _WIDE:
    return plain_gradient
  if size <= _MAX_STEPS * 2 * _ROWS_BYTES or tuple(strides) != (1, 1):
    return rows_gradient
  return matmul_gradient


def plain_gradient(
  x: Float[ArrayLike, "n h w i"],
  dy: Float[ArrayLike, "n h_out w_out o"],
  *,
  shape: Sequence[int],
  strides: Sequence[int],
  pads: Pads,
) -> Float[Array, "kh kw i o"]:
  """Computes the kernel gradient as XLA does, by one convolution.

  Args:
    x: the convolution's input.
    dy: the gradient of its output.
    shape: shape of the kernel, (kh, kw, I, O).
    strides: strides of height and width.
    pads: padding, ((top, bottom), (left, right)).

  Returns:
    The gradient, of x's dtype.
  """
  kernel = jax.ShapeDtypeStruct(shape, x.dtype)
  (dk,) = jax.linear_transpose(lambda k: _plain(x, k, strides, pads), kernel)(dy)
  return dk


def rows_gradient(
  x: Float[ArrayLike, "n h w i"],
  dy: Float[ArrayLike, "n h_out w_out o"],
  *,
  shape: Sequence[int],
  strides: Sequence[int],
  pads: Pads,
) -> Float[Array, "kh kw i o"]:
  """Computes the kernel gradient as a sum over blocks of output rows.

  Blocks are of rows, not images, so that a batch sharded over devices stays where it
  is; the sum over devices is taken once, of the total.

  Arguments and result are those of `plain_gradient`.
  """
  n, h, w, features = dy.shape
  steps = -(-4 * n * h * w * features // _ROWS_BYTES)
  block = -(-h // max(1, min(steps, _MAX_STEPS, h)))
  total = jnp.zeros(shape, jnp.float32)
  for start in range(0, h, block):
    stop = min(start + block, h)
    # Rows of x that these outputs depend on, padding included.
    first = start * strides[0] - pads[0][0]
    last = (stop - 1) * strides[0] - pads[0][0] + shape[0]
    low, high = max(first, 0), min(last, x.shape[1])
    if low >= high:
      continue  # Only padding.
    part = plain_gradient(
      x[:, low:high].astype(jnp.float32),
      dy[:, start:stop].astype(jnp.float32),
      shape=shape,
      strides=strides,
      pads=((low - first, last - high), pads[1]),
    )
    total = total + part
  return total.astype(x.dtype)


def matmul_gradient(
  x: Float[ArrayLike, "n h w i"],
  dy: Float[ArrayLike, "n h_out w_out o"],
  *,
  shape: Sequence[int],
  strides: Sequence[int],
  pads: Pads,
) -> Float[Array, "kh kw i o"]:
  """Computes the kernel gradient as one matrix product, for strides of one.

  dk[i, j] = sum over h, w' of x[h + i, w']^T dy[h, w' - j]: x is shifted in height and
  dy in width.

  Arguments and result are those of `plain_gradient`.
  """
  if tuple(strides) != (1, 1):
    raise ValueError(f"expected strides of one, found {strides}")
  kh, kw, inputs, features = shape
  height, width = dy.shape[1], x.shape[2]
  zero = jnp.zeros((), x.dtype)
  none = (0, 0, 0)
  x = lax.pad(x, zero, (none, (*pads[0], 0), none, none))
  left, right = kw - 1 - pads[1][0], kw - 1 - pads[1][1]
  dy = lax.pad(dy, zero, (none, none, (left, right, 0), none))
  x = jnp.concatenate([x[:, i : i + height] for i in range(kh)], -1)
  dy = jnp.concatenate(
    [dy[:, :, kw - 1 - j : kw - 1 - j + width] for j in range(kw)], -1
  )
  dk = lax.dot_general(
    x.reshape(-1, kh * inputs),
    dy.reshape(-1, kw * features),
    (((0,), (0,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  dk = dk.reshape(kh, inputs, kw, features).transpose(0, 2, 1, 3)
  return dk.astype(x.dtype)
