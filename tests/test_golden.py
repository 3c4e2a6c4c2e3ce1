"""Golden cases: those in the repository, and those that VDM_JAX_GOLDEN names.

`data/vdm_gaussian_samplers.json` is a part of the original (fewer step counts), the
other files are whole.
"""

import json
import os
import pathlib

import numpy as np
import pytest

from tests.golden import __main__ as command
from tests.golden import case as case_lib
from tests.golden import runner

HERE = pathlib.Path(__file__).parent / "golden" / "data"


def _cases() -> list:
  """The repository's files; those of VDM_JAX_GOLDEN, marked `golden`."""
  files = sorted(p for p in HERE.iterdir() if p.suffix in (".npz", ".json"))
  further = []
  if folder := os.environ.get("VDM_JAX_GOLDEN"):
    here = {p.name: p.read_bytes() for p in files}
    # A file that lies here too is run once.
    further = sorted(
      p
      for p in pathlib.Path(folder).iterdir()
      if p.suffix in (".npz", ".json") and here.get(p.name) != p.read_bytes()
    )
  marked = [pytest.param(path, marks=pytest.mark.golden) for path in further]
  return [*files, *marked]


@pytest.mark.parametrize(
  "path", _cases(), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_golden(path):
  kind = case_lib.load(path).kind
  if kind not in runner.KINDS:
    pytest.skip(f"kind {kind} is not supported")
  report = runner.run(path)
  if "skipped" in report:
    pytest.skip(report["skipped"])
  assert report["ok"], runner.as_line(report)


def test_every_supported_kind_has_a_tolerance():
  known = {*case_lib.TOLERANCES, *case_lib.STATISTICS}
  assert set(runner.KINDS) <= known


def _case(kind, meta=None, **arrays):
  arrays = {name.replace("_", "/", 1): value for name, value in arrays.items()}
  return case_lib.Case(pathlib.Path("x"), {"kind": kind, **(meta or {})}, arrays)


def test_tolerance_of_a_trajectory_is_what_the_reference_can_promise():
  meta = {"float64_max_abs_diff_samples": [1e-5, 4e-4], "float64_max_abs_diff": 1e-9}
  case = _case(
    "ramvid_sample", meta, out_samples=np.full(3, 2.0), out_pred_xstart=np.ones(3)
  )
  assert case_lib.tolerance(case, "out/samples") == pytest.approx(20 * 4e-4 / 2)
  assert case_lib.tolerance(case, "out/pred_xstart") == 5e-3
  by_name = {"float64_max_abs_diff": {"out/video": 1e-3}}
  case = _case("rvd_rollout", by_name, out_video=np.ones(2), out_mu=np.ones(2))
  assert case_lib.tolerance(case, "out/video") == pytest.approx(20e-3)
  assert case_lib.tolerance(case, "out/mu") == 1e-3


def test_bytes_may_differ_by_one_level():
  expected = np.array([3, 200], np.uint8)
  case = _case("fdm_sample_video", out_uint8=expected)
  for wrong, ok in ((1, True), (2, False)):
    error = case_lib.compare(case, {"out/uint8": expected + np.uint8(wrong)})
    assert case_lib.accepted(case, error) == ok


def test_no_p_value_may_be_too_small_for_their_number():
  case = _case("fdm_mask_stats")
  assert case_lib.accepted(case, {"a": 0.0006, "b": 0.5})
  assert not case_lib.accepted(case, {"a": 0.0004, "b": 0.5})
  assert not case_lib.accepted(case, {})


def _rewrite(tmp_path, change):
  with np.load(HERE / "rvd_schedule.npz") as archive:
    arrays = dict(archive)
  change(arrays)
  path = tmp_path / "case.npz"
  np.savez(path, **arrays)
  return path


def test_runner_notices_a_wrong_value(tmp_path):
  def change(arrays):
    arrays["out/T5/betas"][3] *= 1.001

  report = runner.run(_rewrite(tmp_path, change))
  assert not report["ok"]
  assert report["errors"]["out/T5/betas"] == pytest.approx(1e-3, rel=0.01)


def test_runner_notices_a_missing_output(tmp_path):
  def change(arrays):
    arrays["out/never_computed"] = np.zeros(3)
    arrays["out/attn_map"] = np.zeros(3)

  report = runner.run(_rewrite(tmp_path, change))
  assert not report["ok"]
  assert report["errors"]["out/never_computed"] is None
  assert "out/attn_map" not in report["errors"]


def test_command_reports_what_it_does_not_support(tmp_path, capsys):
  path = tmp_path / "unknown.json"
  path.write_text('{"kind": "no_such_kind"}')
  assert command.main([str(path)]) == 1
  assert '"unsupported": true' in capsys.readouterr().out


def test_a_file_that_is_no_case_does_not_hide_the_others(tmp_path, capsys):
  foreign = tmp_path / "README.md"
  foreign.write_text("# Cases")
  assert command.main([str(foreign), str(HERE / "rvd_schedule.npz")]) == 1
  first, second = map(json.loads, capsys.readouterr().out.splitlines())
  assert not first["ok"] and first["kind"] is None and "exception" in first
  assert second["ok"]


def test_nan_equals_nan_and_nothing_else():
  nan = float("nan")
  assert case_lib.relative([nan, 1.0], [nan, 1.0]) == 0
  assert case_lib.relative([0.0, 1.0], [nan, 1.0]) == np.inf
  assert case_lib.relative([nan, 1.0], [0.0, 1.0]) == np.inf
  assert case_lib.elementwise([1.0], [1.0, 1.0]) == np.inf
