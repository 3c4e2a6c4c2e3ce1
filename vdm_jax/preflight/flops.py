"""Floating-point operations of the products and convolutions of a jaxpr.

XLA's own count takes the body of a loop once, whatever its length; a step with
micro-batches, or attention in chunks of queries, is such a loop. So operations are
counted here, before compilation. Recomputation for the backward pass counts each time,
elementwise work does not. Unused results do not count either: `jax.vjp` also computes
the value, which the compiler drops.
"""

import math

import jax
from jax.extend import core


def count(function, *args) -> int:
  """Counts the operations of one call over all devices, a multiply-add as two.

  Args:
    function: function, which is traced but not run.
    *args: arrays or `jax.ShapeDtypeStruct`s.
  """
  return _jaxpr(traced(function, *args))


def traced(function, *args) -> core.Jaxpr:
  """Traces a call to its jaxpr; `function` may be jitted, with compiler options."""
  if isinstance(function, jax.stages.Wrapped):
    return function.trace(*args).jaxpr.jaxpr
  return jax.make_jaxpr(function)(*args).jaxpr


def _jaxpr(jaxpr: core.Jaxpr) -> int:
  used, total = {v for v in jaxpr.outvars if isinstance(v, core.Var)}, 0
  for equation in reversed(jaxpr.eqns):
    if equation.effects or not used.isdisjoint(equation.outvars):
      used.update(v for v in equation.invars if isinstance(v, core.Var))
      total += _equation(equation)
  return total


def _equation(equation) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    return _dot(equation)
  if name == "conv_general_dilated":
    return _convolution(equation)
  if name == "scan":
    return params["length"] * _jaxpr(params["jaxpr"].jaxpr)
  if name == "shard_map":  # Its body is the work of one device.
    # The name depends on the version of JAX.
    axes = params.get("newly_manual_axes", params.get("manual_axes"))
    parts = math.prod(params["mesh"].shape[axis] for axis in axes)
    return parts * _jaxpr(params["jaxpr"])
  if name == "pallas_call":
    return math.prod(params["grid_mapping"].grid) * _jaxpr(params["jaxpr"])
  if name == "cond":
    return max(_jaxpr(branch.jaxpr) for branch in params["branches"])
  # A `while` of unknown length counts once, as none of ours holds a product.
  return sum(_jaxpr(inner) for value in params.values() for inner in inside(value))


def inside(value):
  """Yields the jaxprs in a parameter of an equation."""
  if isinstance(value, core.ClosedJaxpr):
    yield value.jaxpr
  elif isinstance(value, core.Jaxpr):
    yield value
  elif isinstance(value, tuple | list):
    for item in value:
      yield from inside(item)


def _dot(equation) -> int:
  (contracted, _), _ = equation.params["dimension_numbers"]
  lhs = equation.invars[0].aval.shape
  terms = math.prod(lhs[axis] for axis in contracted)
  return 2 * equation.outvars[0].aval.size * terms


def _convolution(equation) -> int:
  numbers = equation.params["dimension_numbers"]
  kernel = equation.invars[1].aval.shape
  out_features = kernel[numbers.rhs_spec[0]]
  terms = math.prod(kernel) // out_features
  # The zeros between pixels of a dilated input do not count.
  zeros = math.prod(equation.params["lhs_dilation"])
  return 2 * equation.outvars[0].aval.size * terms // zeros
