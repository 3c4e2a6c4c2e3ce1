"""Golden cases of FDM (Harvey et al. 2022)."""

import jax

from tests.golden import case as case_lib
from tests.golden import tables
from vdm_jax.diffusion import schedule
from vdm_jax.errors import UserError


def _wrong_respacing(example: dict) -> bool:
  try:
    steps = schedule.retained_steps(example["num_timesteps"], example["section_counts"])
  except UserError:
    return "error" not in example
  return steps != example.get("timesteps")


def fdm_tables(case: case_lib.Case) -> case_lib.Errors:
  """Tables, and which steps a respacing keeps.

  In float64: float32 rounds log SNR to 1e-6, which is 1e-4 of the smallest steps.
  """
  computed = {}
  with jax.enable_x64(True):
    for setting in case.meta["cases"]:
      result = tables.clip_first_variance(tables.tables(tables.schedule_of(setting)))
      computed |= {f"out/{setting['tag']}/{k}": table for k, table in result.items()}
  wrong = sum(map(_wrong_respacing, case.meta["respacing_examples"]))
  errors = case_lib.compare(case, computed, case_lib.elementwise)
  return errors | {"respacing_examples": wrong}


KINDS = {"fdm_tables": fdm_tables}
