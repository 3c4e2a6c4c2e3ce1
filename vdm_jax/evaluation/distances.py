"""Distances between sets of features, with errors, as protocol `fvd` reports them."""

import math
from typing import Any

import numpy as np

from vdm_jax.errors import UserError
from vdm_jax.metrics import frechet, frechet_variants, jackknife, kernel

# Formulas for the root of the product of covariances.
ROOTS = {
  "exact": lambda a, b, ddof: frechet.distance_of_features(a, b, ddof=ddof),
  "sqrtm": lambda a, b, ddof: frechet_variants.sqrtm(a, b, ddof=ddof),
  "tfgan": lambda a, b, ddof: frechet_variants.tfgan(a, b, ddof=ddof),
  "tfgan_float32": lambda a, b, ddof: frechet_variants.tfgan(
    a, b, ddof=ddof, dtype=np.float32
  ),
}
_LINE_LEAST = 20  # Fewest videos from which FVD is extrapolated.
_KERNEL_MAX = 1000  # Most videos for which KVD takes all pairs, again for each error.


def measure(
  first: np.ndarray, second: np.ndarray, *, root: str = "exact", ddof: int = 1
) -> dict[str, Any]:
  """Computes distances of features [N1, D] and [N2, D], each with an error.

  Errors of FVD and KVD come from a jackknife over ten parts of both sets at once, that
  of FVD at infinity from its line fit. Above 1000 videos KVD is the mean over random
  subsets of 1000, with its own error, as in torch-fidelity.
  """
  if min(len(first), len(second)) < 2:
    raise UserError(
      f"fvd: expected 2 videos or more of each, found {len(first)} and {len(second)}"
    )
  for name, x in (("a", first), ("b", second)):
    wrong = int((~np.isfinite(x)).any(axis=1).sum())
    if wrong:
      raise UserError(
        f"`{name}`: features of {wrong} of {len(x)} videos are not finite: are the "
        "weights those of the network?"
      )
  dims, least = first.shape[1], min(len(first), len(second))
  fvd = _with_error(lambda a, b: ROOTS[root](a, b, ddof), first, second)
  if least > _KERNEL_MAX:  # The cost of KVD is quadratic in the number of videos.
    value, error = kernel.of_subsets(first, second, size=_KERNEL_MAX)
    kvd = {"value": value, "error": error}
    jedi = {"value": kernel.jedi(first, second), "error": math.nan}
  else:
    kvd = _with_error(kernel.distance, first, second)
    jedi = _with_error(kernel.jedi, first, second)
  found = {
    "fvd": fvd,
    "kvd": kvd,
    "jedi_mmd": jedi,
    "n_a": len(first),
    "n_b": len(second),
    "dimensions": dims,
    "warnings": [],
  }
  if least >= _LINE_LEAST:
    line = frechet.infinity(first, second, seed=0)
    found["fvd_infinity"] = {"value": line.value, "error": line.error}
  else:
    found["warnings"].append(
      f"{least} videos: FVD at infinitely many wants {_LINE_LEAST} or more of each"
    )
  if least <= dims:
    found["warnings"].append(
      f"{least} videos, {dims} dimensions: covariances are singular, and the distance "
      "is mostly bias; compare at equal counts alone"
    )
  return found


def _with_error(distance, first, second) -> dict[str, float]:
  value, error = jackknife.estimate(
    lambda a, b: distance(first[a], second[b]), len(first), len(second), least=2
  )
  return {"value": value, "error": error}
