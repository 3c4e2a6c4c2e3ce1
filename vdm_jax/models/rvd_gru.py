"""The convolutional GRU of RVD, the only layer that mixes frames.

The frames' contributions to the gates are computed in one convolution for all frames,
and so are the gradients of all kernels; only the state's contributions are left to the
scans over time, forwards and backwards.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, ArrayLike, Float, Float32

from vdm_jax.models import conv
from vdm_jax.models.rvd_blocks import kernel_init


class ConvGru(nn.Module):
  """A GRU whose gates and candidate are 3 x 3 convolutions of frame and state.

  Attributes:
    features: channels of the state.
    dtype: dtype of the convolutions; gates and state are float32.
  """

  features: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[ArrayLike, "b t h w c"],
    state: Float[ArrayLike, "b h w {self.features}"],
  ) -> Float32[Array, "b t h w {self.features}"]:
    """Computes the states after each frame.

    Args:
      x: frames.
      state: state before the first frame.

    Returns:
      The states.
    """
    f, c = self.features, x.shape[-1]
    gates = self.param("gates_kernel", kernel_init, (3, 3, c + f, 2 * f))
    gates_bias = self.param("gates_bias", nn.initializers.zeros, (2 * f,))
    candidate = self.param("candidate_kernel", kernel_init, (3, 3, c + f, f))
    candidate_bias = self.param("candidate_bias", nn.initializers.zeros, (f,))

    kernel = jnp.concatenate([gates[:, :, :c], candidate[:, :, :c]], axis=-1)
    from_frame = _convolve(self.dtype, x.reshape(-1, *x.shape[2:]), kernel)
    from_frame = from_frame + jnp.concatenate([gates_bias, candidate_bias])
    from_frame = from_frame.reshape(*x.shape[:-1], 3 * f).swapaxes(0, 1)
    states = _scan(
      self.dtype,
      from_frame,
      gates[:, :, c:],
      candidate[:, :, c:],
      state.astype(jnp.float32),
    )
    return states.swapaxes(0, 1)


def _convolve(dtype, x, kernel):
  """Computes a 3 x 3 convolution in a dtype; the result is float32."""
  y = conv.conv2d(x.astype(dtype), kernel.astype(dtype), padding=((1, 1), (1, 1)))
  return y.astype(jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(dtype, from_frame, gates, candidate, state):
  """Runs the recurrence.

  Args:
    dtype: dtype of the convolutions.
    from_frame: [T, B, H, W, 3F], the frames' contributions to reset gate, update gate
      and candidate, before the nonlinearities.
    gates, candidate: kernels of the state, [3, 3, F, 2F] and [3, 3, F, F].
    state: state before the first frame, [B, H, W, F].

  Returns:
    The states after each frame, [T, B, H, W, F].
  """
  return _forward(dtype, from_frame, gates, candidate, state)[0]


def _forward(dtype, from_frame, gates, candidate, state):
  f = state.shape[-1]

  def step(h, from_frame):
    gate = nn.sigmoid(from_frame[..., : 2 * f] + _convolve(dtype, h, gates))
    reset, update = jnp.split(gate, 2, axis=-1)
    new = jnp.tanh(from_frame[..., 2 * f :] + _convolve(dtype, reset * h, candidate))
    return (1.0 - update) * h + update * new, (h, reset, update, new)

  last, saved = jax.lax.scan(step, state, from_frame)
  states = jnp.concatenate([saved[0][1:], last[None]])
  return states, (gates, candidate, saved)


def _backward(dtype, residuals, gradient):
  gates, candidate, saved = residuals

  def turned(kernel):
    """Makes the kernel of the input gradient, which is a convolution of the output's.

    It is transposed here, once: inside the scan XLA:CPU would see a reversed kernel,
    which its fast convolutions do not support.
    """
    return kernel[::-1, ::-1].swapaxes(2, 3)

  to_gates, to_candidate = turned(gates), turned(candidate)

  def step(dh, inputs):
    (h, reset, update, new), gradient = inputs
    dh = dh + gradient
    dnew = dh * update * (1.0 - new * new)
    dupdate = dh * (new - h) * update * (1.0 - update)
    dh = dh * (1.0 - update)
    dseen = _convolve(dtype, dnew, to_candidate)
    dreset = dseen * h * reset * (1.0 - reset)
    dgate = jnp.concatenate([dreset, dupdate], axis=-1)
    dh = dh + dseen * reset + _convolve(dtype, dgate, to_gates)
    return dh, (dgate, dnew)

  zero = jnp.zeros_like(gradient[0])
  dstate, (dgate, dnew) = jax.lax.scan(step, zero, (saved, gradient), reverse=True)
  h, reset, _, _ = saved

  def of_kernel(kernel, x, dy):
    # All frames are one batch, with the axis of videos first because that one is
    # sharded: with frames first, every device would gather the others' activations.
    x, dy = (a.swapaxes(0, 1).reshape(-1, *a.shape[2:]) for a in (x, dy))
    return jax.vjp(lambda k: _convolve(dtype, x, k), kernel)[1](dy)[0]

  return (
    jnp.concatenate([dgate, dnew], axis=-1),
    of_kernel(gates, h, dgate),
    of_kernel(candidate, reset * h, dnew),
    dstate,
  )


_scan.defvjp(_forward, _backward)
