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

_TRAINING = {"": 2e-4, "out/loss": 1e-5, "grad/": 1e-3, "out/grad_norms": 1e-3}
_SAMPLING = {"": 1e-3}
# Of kinds with such outputs: estimates of x from noise, and bytes that may differ by
# one.
_ESTIMATE, _ESTIMATE_TOLERANCE = "pred_xstart", 5e-3
_BYTES = "out/uint8"
# Trajectories may be this many times as far off as the reference is from itself in
# float64, where that is stated.
_FLOAT64_MARGIN = 20
TRAJECTORIES = ("fdm_sampling", "ramvid_sample", "rvd_rollout", "fdm_sample_video")
# Errors of these kinds are p-values; none may be below this over their number.
STATISTICS = ("fdm_mask_stats", "ramvid_mask_stats")
SIGNIFICANCE = 1e-3
# Of each kind, the largest error allowed: that of a suffix ("*..."), or else of the
# longest prefix of a name.
TOLERANCES = {
  "vdm_gaussian_samplers": {"": 1e-4},
  "fdm_tables": {"": 1e-5, "respacing_examples": 0},
  "ramvid_tables": {"": 1e-5},
  "rvd_schedule": {"": 1e-5},
  "fdm_unet": {"": 1e-4},
  "ramvid_unet": {"": 1e-4},
  "rvd_recurrent": {"": 1e-4},
  "rvd_unet": {"": 2e-4},
  "fdm_loss": _TRAINING,
  "ramvid_loss": _TRAINING,
  "rvd_train": _TRAINING,
  "fdm_sampling": _SAMPLING,
  "ramvid_sample": _SAMPLING,
  "rvd_rollout": _SAMPLING,
  "fdm_sample_video": _SAMPLING,
  "fdm_elbo": {"": 1e-3},
  "fdm_schemes": {"": 0},
  "fdm_schemes_original": {"": 0},
  "fdm_adaptive": {"": 0},
  "fdm_optimised_schedule": {"": 0},
  "ramvid_long_plan": {"": 0},
  "fdm_checkpoint_layout": {"": 0},
  "ramvid_checkpoint_keys": {"": 0},
  "fdm_carla_cells": {"": 0},
  "rvd_crps": {"": 1e-5},
  "metrics_image": {"": 1e-4, "out/frame0_": 0},
  # In float32 the root is as far from itself under another LAPACK.
  "metrics_frechet": {"": 1e-4, "out/streaming/": 1e-9, "*_float32": 5e-4},
  "fdm_frechet": {"": 1e-4},
  "metrics_i3d": {"": 1e-3},
  "metrics_c3d": {"": 1e-3},
  "metrics_lpips": {"": 1e-3},
  "metrics_real": {"": 2e-3, "out/lpips_": 1e-4},
}

# Error by name; None where nothing was computed.
Errors = dict[str, float | None]


class Skipped(Exception):
  """A case cannot be run here; the message says what it wants."""


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


def _float64_difference(case: Case, name: str) -> float:
  """What the case states of an output against float64, absolute; 0 if nothing."""
  rest = name.removeprefix("out/")
  stated = case.meta.get("float64_max_abs_diff", 0.0)
  if isinstance(stated, Mapping):
    stated = stated.get(name, stated.get(rest, 0.0))
  stated = case.meta.get(f"float64_max_abs_diff_{rest}", stated)
  return float(np.max(stated, initial=0.0))


def tolerance(case: Case, name: str) -> float:
  """The largest error allowed of one output of a case."""
  of_kind = TOLERANCES[case.kind]
  suffixes = [p for p in of_kind if p.startswith("*") and name.endswith(p[1:])]
  prefixes = [p for p in of_kind if name.startswith(p)]
  allowed = of_kind[suffixes[0] if suffixes else max(prefixes, key=len)]
  if case.kind not in TRAJECTORIES or name not in case.arrays:
    return allowed
  magnitude = np.abs(case.arrays[name].astype(np.float64)).max(initial=0.0) or 1.0
  if name == _BYTES:
    return max(allowed, 1.0 / magnitude)
  if _ESTIMATE in name:
    allowed = _ESTIMATE_TOLERANCE
  return max(allowed, _FLOAT64_MARGIN * _float64_difference(case, name) / magnitude)


def accepted(case: Case, errors: Errors) -> bool:
  """Whether all errors of a case are within its tolerances, and there are any."""
  if not errors or None in errors.values():
    return False
  if case.kind in STATISTICS:
    return min(errors.values()) >= SIGNIFICANCE / len(errors)
  return all(error <= tolerance(case, name) for name, error in errors.items())
