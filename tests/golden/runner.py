"""Runs golden files: from a path to the line that reports it."""

import json
import math
import pathlib
import traceback

import jax

from tests.golden import case as case_lib
from tests.golden import evaluation, fdm, metrics, plans, ramvid, rvd, vdm

KINDS = {
  **vdm.KINDS,
  **fdm.KINDS,
  **ramvid.KINDS,
  **rvd.KINDS,
  **plans.KINDS,
  **evaluation.KINDS,
  **metrics.KINDS,
}


def run(path: str | pathlib.Path) -> dict:
  """The report of one file: file, kind, ok, errors; or why it could not be run."""
  report = {"file": str(path), "kind": None, "ok": False, "errors": {}}
  try:
    case = case_lib.load(path)
    report["kind"] = case.kind
    if case.kind not in KINDS:
      return report | {"unsupported": True}
    with jax.default_matmul_precision("highest"):
      errors = KINDS[case.kind](case)
  except case_lib.Skipped as reason:
    return report | {"skipped": str(reason)}
  except Exception as error:  # One broken case must not hide the others.
    traceback.print_exc()
    return report | {"exception": f"{type(error).__name__}: {error}"}
  return report | {"ok": case_lib.accepted(case, errors), "errors": errors}


def as_line(report: dict) -> str:
  """The report as strict JSON: errors that are not finite become null."""
  errors = {
    name: None if value is None or not math.isfinite(value) else float(value)
    for name, value in report["errors"].items()
  }
  return json.dumps(report | {"errors": errors})
