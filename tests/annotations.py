"""Checks of the shapes and dtypes in annotations, by jaxtyping's import hook."""

import contextlib
import functools
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

PACKAGES = ["vdm_jax.diffusion", "vdm_jax.models", "vdm_jax.metrics"]
# Numbers as in PEP 484: an int is a float.
_CONF = beartype.BeartypeConf(is_pep484_tower=True)


def check(function: Callable) -> Callable:
  """Makes every call of a function check the arrays of its annotations.

  Other annotations are left alone: words that a `Literal` does not list, for instance,
  have errors of their own, which tests ask for.
  """
  function.__annotations__ = {
    name: hint for name, hint in function.__annotations__.items() if _of_array(hint)
  }
  checked = beartype.beartype(function, conf=_CONF)
  if function.__name__ != "__init__":
    return checked

  @functools.wraps(function)
  def init(self, *args, **kwargs):
    # JAX fills its trees with shapes, shardings and numbers of axes, too.
    tree = hasattr(type(self), "_flax_dataclass")
    return (function if tree else checked)(self, *args, **kwargs)

  return init


@contextlib.contextmanager
def ignored():
  """Makes calls that annotations forbid, for the errors of the package itself."""
  jaxtyping.config.update("jaxtyping_disable", True)
  try:
    yield
  finally:
    jaxtyping.config.update("jaxtyping_disable", False)


def _of_array(hint: Any) -> bool:
  """Tells whether a hint says the shape of an array, maybe one of several in it."""
  if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
    return True
  return any(map(_of_array, typing.get_args(hint)))
