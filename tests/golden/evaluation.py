"""Golden cases of metrics."""

import numpy as np

from tests.golden import case as case_lib
from vdm_jax.metrics.crps import crps
from vdm_jax.models.position_regressor import Grid

# Of CARLA's Town01, metres (FDM: 10 x 10 cells over [-10, 400]^2).
_TOWN01 = Grid((-10.0, -10.0, 400.0, 400.0), 10)


def rvd_crps(case: case_lib.Case) -> case_lib.Errors:
  """Scores of scalars, and of videos [S, B, T, C, H, W]."""
  given, computed = case.group("in"), {}
  for settings in case.meta["cases"]:
    name = settings["name"]
    members = np.moveaxis(given[f"{name}_ens"], -1, 0)
    for suffix, fair in (("crps", False), ("crps_fair", True)):
      computed[f"out/{name}_{suffix}"] = crps(members, given[f"{name}_obs"], fair=fair)
  members, truth = given["video_ens"], given["video_truth"]
  pixels = crps(members, truth)
  per_frame = (0, 2, 3, 4)
  computed |= {
    "out/video_crps_pixel": pixels,
    "out/video_crps_per_frame": pixels.mean(per_frame),
    "out/video_crps_per_video_frame": pixels.mean((2, 3, 4)),
    "out/video_crps": pixels.mean(),
    "out/video_crps_fair_per_frame": crps(members, truth, fair=True).mean(per_frame),
    "out/video_mae_member0_per_frame": crps(members[:1], truth).mean(per_frame),
  }
  return case_lib.compare(case, computed)


def fdm_carla_cells(case: case_lib.Case) -> case_lib.Errors:
  """The number of points in another cell; None there is -1 here."""
  expected = [-1 if cell is None else cell for cell in case.meta["cells"]]
  found = _TOWN01.cell(np.asarray(case.meta["points"]))
  return {"cells": float(np.sum(found != expected))}


KINDS = {"rvd_crps": rvd_crps, "fdm_carla_cells": fdm_carla_cells}
