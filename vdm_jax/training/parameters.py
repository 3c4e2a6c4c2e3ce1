"""The table of a network's parameters, module by module."""

from typing import Any

import jax
import numpy as np


def count(params: Any) -> int:
  """Counts the numbers in a tree of arrays or `jax.ShapeDtypeStruct`s."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def table(params: Any) -> str:
  """Formats one line per module, with shapes, count and share, and the total.

  Args:
    params: a tree of arrays or `jax.ShapeDtypeStruct`s.
  """
  modules: dict[str, list[tuple[str, Any]]] = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    names = jax.tree_util.keystr(path, simple=True, separator="/")
    module, _, name = names.rpartition("/")
    modules.setdefault(module or ".", []).append((name, leaf))
  total = count(params)
  rows = [("module", "shapes", "parameters", "share")]
  for module, leaves in modules.items():
    shapes = ", ".join(
      f"{name} {'x'.join(map(str, leaf.shape)) or 'scalar'}" for name, leaf in leaves
    )
    number = count([leaf for _, leaf in leaves])
    rows.append((module, shapes, f"{number:,}", f"{number / max(total, 1):.2%}"))
  rows.append(("total", "", f"{total:,}", "100.00%"))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    f"{module:<{widths[0]}}  {shapes:<{widths[1]}}  {number:>{widths[2]}}  "
    f"{share:>{widths[3]}}"
    for module, shapes, number, share in rows
  ]
  return "\n".join(lines) + "\n"
