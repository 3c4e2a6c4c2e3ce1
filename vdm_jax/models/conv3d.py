"""3-D convolution, computed on CPU by 2-D convolutions of stacked frames.

A kernel over kt frames is a 2-D kernel over kt times as many channels: those of the
frames that an output frame depends on. XLA:CPU then computes outputs and input
gradients in half the time and kernel gradients in a little less. Elsewhere the plain
3-D convolution runs, which needs no copies of its input. The choice is made while
lowering, as in `conv`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from vdm_jax.models import conv

_LAYOUT = ("NDHWC", "DHWIO", "NDHWC")


def conv3d(
  x: Float[ArrayLike, "b t h w i"],
  kernel: Float[ArrayLike, "kt kh kw i o"],
  *,
  strides: Sequence[int],
) -> Float[Array, "b t_out h_out w_out o"]:
  """Computes a convolution (cross-correlation) over time, height and width.

  Both sides are zero-padded: k // 2 before and (k - 1) // 2 after, as in PyTorch for
  odd k, whatever the stride. Derivatives are reverse-mode only.

  Args:
    x: videos.
    kernel: the kernel, of x's dtype.
    strides: strides of time, height and width.

  Returns:
    The videos' convolution, of x's dtype.
  """
  return _conv(x, kernel, tuple(strides))


def _pads(kernel) -> list[tuple[int, int]]:
  return [(k // 2, (k - 1) // 2) for k in kernel.shape[:3]]


def _plain(x, kernel, strides):
  return lax.conv_general_dilated(
    x, kernel, strides, _pads(kernel), dimension_numbers=_LAYOUT
  )


def _stacked(x, kernel, strides):
  """Computes the same by `conv.conv2d`, with neighbouring frames as channels."""
  stride, *space = strides
  time, *pads = _pads(kernel)
  kt, kh, kw, inputs, features = kernel.shape
  x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (*time, 0), *[(0, 0, 0)] * 3])
  frames = (x.shape[1] - kt) // stride + 1
  x = jnp.concatenate(
    [x[:, k : k + (frames - 1) * stride + 1 : stride] for k in range(kt)], axis=-1
  )
  kernel = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kt * inputs, features)
  y = conv.conv2d(x.reshape(-1, *x.shape[2:]), kernel, strides=space, padding=pads)
  return y.reshape(-1, frames, *y.shape[1:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, strides):
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_stacked, strides=strides),
    default=functools.partial(_plain, strides=strides),
  )


def _forward(x, kernel, strides):
  return _conv(x, kernel, strides), (x, kernel)


def _backward(strides, residuals, dy):
  def by(function):
    def gradients(x, kernel, dy):
      return jax.vjp(functools.partial(function, strides=strides), x, kernel)[1](dy)

    return gradients

  return lax.platform_dependent(*residuals, dy, cpu=by(_stacked), default=by(_plain))


_conv.defvjp(_forward, _backward)
