"""A TPU kernel of attention over time at every pixel, with channels in lanes.

A score is the sum over a head's channels of q * (k + relative key), so a product of all
channels with a matrix of zeros and ones gives the scores of all heads, and relative
positions need no product of their own. The same matrix, transposed, spreads a head's
weight over its channels. No [frames, frames] array per pixel is written to memory.

A step of the grid handles some pixels and some heads of one video, over all its frames.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_LANES = 128
_ROWS = 16  # Rows of a tile in half precision.
_MEMORY = 12 << 20  # Bytes used of the 16 MiB that a kernel has by default.


class Blocks(NamedTuple):
  """The pixels, and the channels (whole heads), of a step of the grid."""

  pixels: int
  channels: int


class _Static(NamedTuple):
  head_dim: int
  forward: Blocks
  backward: Blocks
  interpret: bool


def takes(frames: int, pixels: int, channels: int, head_dim: int, dtype) -> bool:
  """Returns whether the kernels take a video: whole heads fill lanes and it fits."""
  shape = frames, pixels, channels, head_dim, dtype
  return None not in (blocks(*shape, False), blocks(*shape, True))


def blocks(
  frames: int, pixels: int, channels: int, head_dim: int, dtype, backward: bool
) -> Blocks | None:
  """Finds the largest blocks whose arrays fit the kernel's memory; None if none do."""
  size = jnp.dtype(dtype).itemsize
  unit = math.lcm(_LANES, head_dim)
  rows = -(-pixels // _ROWS) * _ROWS
  fitting = []
  for width in range(unit, min(channels, 4 * _LANES) + 1, unit):
    if channels % width:
      continue
    for height in (16, 32, 64, 128):
      tile, pairs = frames * height * width, 4 * frames**2 * width
      # Inputs and outputs are double-buffered: one copy moves while the other is used.
      if backward:
        held = 10 * size * tile + 8 * pairs + 8 * tile + 8 * frames * height * _LANES
      else:
        held = 8 * size * tile + 4 * pairs + 4 * frames * height * _LANES
      if held <= _MEMORY and height <= rows:
        fitting.append(Blocks(height, width))
  return max(fitting, key=lambda b: (b.pixels * b.channels, b.channels), default=None)


def attend(
  qkv: jax.Array,
  rel_k: jax.Array,
  rel_v: jax.Array,
  attends: jax.Array,
  *,
  head_dim: int,
  interpret: bool = False,
) -> jax.Array:
  """Computes softmax attention among the frames at each pixel, on one device.

  Args:
    qkv: [B, T, P, 3 C], queries, keys and values of each pixel; C holds heads of
      head_dim, for which `takes` is true.
    rel_k, rel_v: [B, T, T, head_dim], added to key and value of frame j (second) when
      frame i (first) attends to it.
    attends: bool [B, T, T], whether frame i may attend to frame j; always true for
      j = i.
    head_dim: width of a head.
    interpret: whether to run as plain JAX, for tests.

  Returns:
    [B, T, P, C], of qkv's dtype.
  """
  _, frames, pixels, width = qkv.shape
  shape = frames, pixels, width // 3, head_dim, qkv.dtype
  settings = _Static(head_dim, blocks(*shape, False), blocks(*shape, True), interpret)
  rows = math.lcm(settings.forward.pixels, settings.backward.pixels)
  padding = -pixels % rows
  if padding:  # Padded pixels attend only to each other and are cut off.
    qkv = jnp.pad(qkv, ((0, 0), (0, 0), (0, padding), (0, 0)))
  out = _attend(
    qkv,
    # Float32, as only 32-bit rows can be read one by one; values are rounded to qkv's.
    rel_k.astype(qkv.dtype).astype(jnp.float32),
    rel_v.astype(qkv.dtype).astype(jnp.float32),
    # One scalar per pair: minus infinity where a frame may not attend.
    jnp.where(attends, 0.0, -jnp.inf).astype(jnp.float32),
    settings,
  )
  return out[:, :, :pixels]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(qkv, rel_k, rel_v, attends, settings):
  return _forward(qkv, rel_k, rel_v, attends, settings)


def _save(qkv, rel_k, rel_v, attends, settings):
  # The backward pass recomputes the scores.
  out = _forward(qkv, rel_k, rel_v, attends, settings)
  return out, (qkv, rel_k, rel_v, attends)


def _derivative(settings, saved, grad):
  d_qkv, d_rel_k, d_rel_v = _backward(*saved, grad, settings)

  def over_heads(x):
    return x.reshape(*x.shape[:3], -1, settings.head_dim).sum(axis=3)

  return d_qkv, over_heads(d_rel_k), over_heads(d_rel_v), None


_attend.defvjp(_save, _derivative)


def _forward(qkv, rel_k, rel_v, attends, settings):
  batch, frames, pixels, width = qkv.shape
  channels, block = width // 3, settings.forward
  groups = channels // block.channels
  fold, spread = _matrices(block.channels, settings.head_dim)
  specs = _Specs(frames, block)
  return pl.pallas_call(
    functools.partial(_forward_kernel, frames=frames, scale=settings.head_dim**-0.5),
    grid=(batch, groups, pixels // block.pixels),
    in_specs=[
      specs.attends(),
      *(specs.tile(part * groups) for part in range(3)),
      specs.pairs(of_heads=False),
      specs.pairs(of_heads=False),
      specs.whole(fold),
      specs.whole(spread),
    ],
    out_specs=specs.tile(0),
    out_shape=jax.ShapeDtypeStruct((batch, frames, pixels, channels), qkv.dtype),
    scratch_shapes=[pltpu.VMEM((frames, block.pixels, _LANES), jnp.float32)],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "parallel")
    ),
    interpret=settings.interpret,
    name="attention_over_time",
  )(attends, qkv, qkv, qkv, *_tiled(block, rel_k, rel_v), fold, spread)


def _backward(qkv, rel_k, rel_v, attends, grad, settings):
  batch, frames, pixels, width = qkv.shape
  channels, block = width // 3, settings.backward
  groups = channels // block.channels
  fold, spread = _matrices(block.channels, settings.head_dim)
  specs = _Specs(frames, block)
  relative = jax.ShapeDtypeStruct((batch, frames, frames, channels), jnp.float32)
  tile = (frames, block.pixels, block.channels)
  scores = pltpu.VMEM((frames, block.pixels, _LANES), jnp.float32)
  return pl.pallas_call(
    functools.partial(_backward_kernel, frames=frames, scale=settings.head_dim**-0.5),
    # The last grid axis writes the derivatives of queries, keys and values in turn.
    grid=(batch, groups, pixels // block.pixels, 3),
    in_specs=[
      specs.attends(),
      *(specs.tile(part * groups) for part in range(3)),
      specs.pairs(of_heads=False),
      specs.pairs(of_heads=False),
      specs.tile(0),
      specs.whole(fold),
      specs.whole(spread),
    ],
    out_specs=[
      pl.BlockSpec((1, *tile), lambda b, g, p, part: (b, 0, p, part * groups + g)),
      specs.pairs(of_heads=True),
      specs.pairs(of_heads=True),
    ],
    out_shape=[jax.ShapeDtypeStruct(qkv.shape, qkv.dtype), relative, relative],
    scratch_shapes=[scores, scores, *[pltpu.VMEM(tile, jnp.float32)] * 2],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "arbitrary", "arbitrary")
    ),
    interpret=settings.interpret,
    name="attention_over_time_backward",
  )(attends, qkv, qkv, qkv, *_tiled(block, rel_k, rel_v), grad, fold, spread)


class _Specs(NamedTuple):
  """Block specs of the arguments at (video, group of heads, block of pixels, ...)."""

  frames: int
  block: Blocks

  def attends(self):
    shape = 1, self.frames, self.frames
    place = lambda b, *_: (b, 0, 0)  # noqa: E731
    return pl.BlockSpec(shape, place, memory_space=pltpu.SMEM)

  def tile(self, first: int):
    """Makes the spec of [B, T, P, C'], with channels from the block `first` on."""
    shape = 1, self.frames, *self.block
    return pl.BlockSpec(shape, lambda b, g, p, *_: (b, 0, p, first + g))

  def pairs(self, of_heads: bool):
    """Makes the spec of [B, T, T, C'], with channels per group of heads or shared."""
    shape = 1, self.frames, self.frames, self.block.channels
    return pl.BlockSpec(shape, lambda b, g, *_: (b, 0, 0, g if of_heads else 0))

  def whole(self, x):
    return pl.BlockSpec(x.shape, lambda *_: (0, 0))


def _matrices(channels: int, head_dim: int):
  """Makes the 0/1 matrix [channels, 128] from channels to heads, and its transpose."""
  of_head = np.arange(channels)[:, None] // head_dim == np.arange(_LANES)
  # Half precision holds zeros and ones exactly.
  return jnp.asarray(of_head, jnp.bfloat16), jnp.asarray(of_head.T, jnp.bfloat16)


def _tiled(block, *arrays):
  """Repeats arrays that all heads share for each head of a block."""
  return [jnp.tile(x, block.channels // x.shape[-1]) for x in arrays]


def _forward_kernel(
  attends, q, k, v, rel_k, rel_v, fold, spread, out, weights, *, frames, scale
):
  half = out.dtype == jnp.bfloat16

  def query(i, _):
    _softmax(i, attends, q, k, rel_k, fold, weights, frames, scale, half)

    def add(j, total):
      value = v[0, j].astype(jnp.float32) + rel_v[0, i, pl.ds(j, 1)]
      # As in the plain form, weights are rounded and sums are not.
      return total + _product(weights[j], spread, 1 if half else 3) * value

    total = _loop(frames, add, jnp.zeros(q.shape[2:], jnp.float32))
    out[0, i] = total.astype(out.dtype)
    return 0

  jax.lax.fori_loop(0, frames, query, 0)


def _backward_kernel(
  attends, q, k, v, rel_k, rel_v, grad, fold, spread,
  d_qkv, d_rel_k, d_rel_v, weights, d_weights, d_k, d_v, *, frames, scale,
):  # fmt: skip
  half = d_qkv.dtype == jnp.bfloat16
  pixels, part = pl.program_id(2), pl.program_id(3)

  @pl.when((pixels == 0) & (part == 0))
  def _():
    d_rel_k[...] = jnp.zeros_like(d_rel_k)
    d_rel_v[...] = jnp.zeros_like(d_rel_v)

  def query(i, _):
    _softmax(i, attends, q, k, rel_k, fold, weights, frames, scale, half)
    scaled = q[0, i].astype(jnp.float32) * scale
    back = grad[0, i].astype(jnp.float32)

    def to_weights(j, mean):
      value = v[0, j].astype(jnp.float32) + rel_v[0, i, pl.ds(j, 1)]
      found = _product(back * value, fold, 2 if half else 3)
      d_weights[j] = found
      return mean + weights[j] * found

    mean = _loop(frames, to_weights, jnp.zeros(weights.shape[1:], jnp.float32))

    def to_all(j, d_q):
      row = pl.ds(j, 1)
      score = weights[j] * (d_weights[j] - mean)
      score = _product(score, spread, 1 if half else 3)
      weight = _product(weights[j], spread, 1 if half else 3)
      to_key, to_value = score * scaled, weight * back
      d_k[j] += to_key
      d_v[j] += to_value
      d_rel_k[0, i, row] += to_key.sum(axis=0, keepdims=True)
      d_rel_v[0, i, row] += to_value.sum(axis=0, keepdims=True)
      return d_q + score * (k[0, j].astype(jnp.float32) + rel_k[0, i, row])

    d_q = _loop(frames, to_all, jnp.zeros(q.shape[2:], jnp.float32))
    d_qkv[0, i] = (d_q * scale).astype(d_qkv.dtype)
    return 0

  @pl.when(part == 0)
  def _():
    d_k[...] = jnp.zeros_like(d_k)
    d_v[...] = jnp.zeros_like(d_v)
    jax.lax.fori_loop(0, frames, query, 0)

  @pl.when(part == 1)
  def _():
    d_qkv[0] = d_k[...].astype(d_qkv.dtype)

  @pl.when(part == 2)
  def _():
    d_qkv[0] = d_v[...].astype(d_qkv.dtype)


def _softmax(i, attends, q, k, rel_k, fold, weights, frames, scale, half):
  """Writes the weights of frame i on all frames, [T, pixels, heads in 128 lanes]."""
  scaled = q[0, i].astype(jnp.float32) * scale

  def score(j, largest):
    key = k[0, j].astype(jnp.float32) + rel_k[0, i, pl.ds(j, 1)]
    found = _product(scaled * key, fold, 2 if half else 3) + attends[0, i, j]
    weights[j] = found
    return jnp.maximum(largest, found)

  shape = weights.shape[1:]
  largest = _loop(frames, score, jnp.full(shape, -jnp.inf, jnp.float32))

  def power(j, total):
    found = jnp.exp(weights[j] - largest)
    weights[j] = found
    return total + found

  total = _loop(frames, power, jnp.zeros(shape, jnp.float32))

  def divide(j, inverse):
    weights[j] *= inverse
    return inverse

  _loop(frames, divide, 1 / total)


def _product(x, matrix, parts: int):
  """Computes x @ matrix in float32, with x as a sum of `parts` half-precision numbers.

  One part is x rounded; two keep 16 of its 24 bits, which sums of scores need; three
  keep all.
  """
  total = 0.0
  for part in range(parts):
    rounded = x.astype(jnp.bfloat16)
    total += jnp.dot(rounded, matrix[...], preferred_element_type=jnp.float32)
    if part + 1 < parts:
      x = x - rounded.astype(jnp.float32)
  return total


def _loop(count: int, body, start):
  """Runs `fori_loop` from 0, unrolled so that one turn fills the stalls of another."""
  at_once = next(n for n in (4, 3, 2, 1) if count % n == 0)

  def turns(n, carry):
    for m in range(at_once):
      carry = body(n * at_once + m, carry)
    return carry

  return jax.lax.fori_loop(0, count // at_once, turns, start)
