"""Golden cases: loading, errors and tolerances."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

# Intermediates of a reference, which need not be computed.
OPTIONAL = (
  "attn",
  "tap/",
  "skip",
  "middle",
  "time_emb",
  "down_time_sizes",
  "up_time_sizes",
  "x_noisy",
)

# Of each kind, the largest error allowed: that of the longest prefix of a name.
TOLERANCES = {
  "vdm_gaussian_samplers": {"": 1e-4},
  "fdm_tables": {"": 1e-5, "respacing_examples": 0},
  "ramvid_tables": {"": 1e-5},
  "rvd_schedule": {"": 1e-5},
}

# Error by name; None where nothing was computed.
Errors = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Case:
  """One file.

  Attributes:
    path: where it is.
    meta: of an npz the meta entry, of a json all of it.
    arrays: of an npz the other entries.
  """

  path: pathlib.Path
  meta: dict
  arrays: dict[str, np.ndarray]

  @property
  def kind(self) -> str:
    return self.meta["kind"]

  def group(self, prefix: str) -> dict[str, np.ndarray]:
    """The arrays under "prefix/", without it."""
    return {
      name.removeprefix(f"{prefix}/"): array
      for name, array in self.arrays.items()
      if name.startswith(f"{prefix}/")
    }


def load(path: str | pathlib.Path) -> Case:
  path = pathlib.Path(path)
  if path.suffix == ".json":
    return Case(path, json.loads(path.read_text()), {})
  with np.load(path) as archive:
    arrays = dict(archive)
  return Case(path, json.loads(str(arrays.pop("meta"))), arrays)


def _difference(actual, expected) -> tuple[np.ndarray, np.ndarray] | None:
  """|actual - expected| and expected; None if the shapes differ. NaN equals NaN."""
  actual, expected = (np.asarray(a, np.float64) for a in (actual, expected))
  if actual.shape != expected.shape:
    return None
  equal = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
  with np.errstate(invalid="ignore"):
    return np.where(equal, 0.0, np.abs(actual - expected)), expected


def _largest(error: np.ndarray) -> float:
  return float(np.where(np.isnan(error), np.inf, error).max(initial=0.0))


def relative(actual, expected) -> float:
  """The largest error over the largest magnitude expected (1 if all is zero)."""
  if (found := _difference(actual, expected)) is None:
    return np.inf
  error, expected = found
  magnitude = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
  return _largest(error) / (magnitude or 1.0)


def elementwise(actual, expected) -> float:
  """The largest relative error of any element (absolute where zero is expected)."""
  if (found := _difference(actual, expected)) is None:
    return np.inf
  error, expected = found
  return _largest(error / np.where(expected == 0, 1.0, np.abs(expected)))


def compare(
  case: Case,
  computed: Mapping[str, np.ndarray],
  measure: Callable[..., float] = relative,
) -> Errors:
  """Errors of every out/ and grad/ of an npz; what is missing has None.

  Args:
    case: the case.
    computed: by name with "out/" or "grad/". Optional names may be absent.
    measure: `relative` or `elementwise`.
  """
  errors = {}
  for name, expected in case.arrays.items():
    group, _, rest = name.partition("/")
    if group not in ("out", "grad"):
      continue
    if name in computed:
      errors[name] = measure(computed[name], expected)
    elif not rest.startswith(OPTIONAL):
      errors[name] = None
  return errors


def accepted(kind: str, errors: Errors) -> bool:
  """Whether all errors are within the tolerances of the kind, and there are any."""

  def tolerance(name):
    prefixes = [p for p in TOLERANCES[kind] if name.startswith(p)]
    return TOLERANCES[kind][max(prefixes, key=len)]

  return bool(errors) and all(
    error is not None and error <= tolerance(name) for name, error in errors.items()
  )
