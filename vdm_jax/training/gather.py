"""Gathering of split weights, once per step and in the dtype of the computation.

With `fsdp` a device holds a part of each weight and needs all of it to multiply. By
itself the compiler gathers weights at every use: forward and backward, in every
micro-batch. Here they are gathered before the first micro-batch, and the gradient is
taken with respect to the gathered copies.

A network in bfloat16 converts most weights before it uses them. Those are converted
first and then gathered, which halves the bytes. They are found in the traced loss:
parameters whose only use is one conversion. All others (affine maps of norms, a head in
float32, whatever is reshaped first or used in a loop) are gathered as they are. So the
operands of every product, and the dtype in which every gradient is summed, do not
change.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# Equations whose inner jaxpr takes the operands of the equation, and runs once.
_CALLS = {"checkpoint", "closed_call", "core_call", "jit", "pjit", "remat", "remat2"}


def dtypes(loss: Callable[..., Any], params: Any, *args: Any) -> Any:
  """Finds the dtype in which each parameter can be gathered.

  Args:
    loss: function (params, *args) -> anything, which is traced but not run.
    params: arrays, tracers or `jax.ShapeDtypeStruct`s.
    *args: further arguments, of the same types.

  Returns:
    A tree like `params`: the dtype that the loss converts a parameter to, if that is
    its only use; otherwise the parameter's own dtype.
  """
  jaxpr = jax.make_jaxpr(loss)(params, *args).jaxpr
  leaves, tree = jax.tree.flatten(params)
  return jax.tree.unflatten(
    tree,
    [
      uses[0] if len(uses) == 1 and uses[0] is not None else jnp.dtype(leaf.dtype)
      for leaf, uses in zip(leaves, _uses(jaxpr, len(leaves)), strict=True)
    ],
  )


def whole(params: Any, to: Any, held: Any, everywhere: jax.sharding.Sharding) -> Any:
  """Converts parameters where they are held, then replicates them to every device.

  Args:
    params: parameters of the state.
    to: dtypes to convert to, see `dtypes`.
    held: shardings of the parameters.
    everywhere: the replicated sharding of the same mesh.
  """

  def one(leaf, dtype, place):
    part = jax.lax.with_sharding_constraint(leaf.astype(dtype), place)
    return jax.lax.with_sharding_constraint(part, everywhere)

  return jax.tree.map(one, params, to, held)


def parts(grads: Any, params: Any, held: Any) -> Any:
  """Brings gradients of gathered parameters to the parameters' sharding and dtype."""

  def one(grad, leaf, place):
    return jax.lax.with_sharding_constraint(grad, place).astype(leaf.dtype)

  return jax.tree.map(one, grads, params, held)


def _uses(jaxpr: core.Jaxpr, count: int) -> list[list[jnp.dtype | None]]:
  """Lists uses of a jaxpr's first `count` arguments: dtypes converted to, or None."""
  found: dict[Any, list[jnp.dtype | None]] = {v: [] for v in jaxpr.invars[:count]}
  for equation in jaxpr.eqns:
    places = [
      (place, var)
      for place, var in enumerate(equation.invars)
      if not isinstance(var, core.Literal) and var in found
    ]
    if not places:
      continue
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    inner = getattr(inner, "jaxpr", inner)
    called = equation.primitive.name in _CALLS and inner is not None
    if called and len(inner.invars) == len(equation.invars):
      within = _uses(inner, len(inner.invars))
      for place, var in places:
        found[var] += within[place]
    else:
      converts = equation.primitive.name == "convert_element_type"
      to = jnp.dtype(equation.params["new_dtype"]) if converts else None
      for _, var in places:
        found[var].append(to)
  for var in jaxpr.outvars:
    if not isinstance(var, core.Literal) and var in found:
      found[var].append(None)
  return [found[v] for v in jaxpr.invars[:count]]
