"""Golden cases of RaMViD (Höppe et al. 2022)."""

import jax

from tests.golden import case as case_lib
from tests.golden import tables


def ramvid_tables(case: case_lib.Case) -> case_lib.Errors:
  """Tables of respaced schedules; in float64, see `fdm.fdm_tables`."""
  computed = {}
  with jax.enable_x64(True):
    for setting in case.meta["cases"]:
      schedule = tables.schedule_of(setting["diffusion"])
      result = tables.clip_first_variance(tables.tables(schedule))
      computed |= {f"out/{setting['name']}/{k}": table for k, table in result.items()}
  return case_lib.compare(case, computed, case_lib.elementwise)


KINDS = {"ramvid_tables": ramvid_tables}
