"""Golden cases: those in the repository, and those that VDM_JAX_GOLDEN names.

`data/vdm_gaussian_samplers.json` is a part of the original (fewer step counts), the
other files are whole.
"""

import os
import pathlib

import numpy as np
import pytest

from tests.golden import __main__ as command
from tests.golden import case as case_lib
from tests.golden import runner

HERE = pathlib.Path(__file__).parent / "golden" / "data"


def _files() -> list[pathlib.Path]:
  files = sorted(p for p in HERE.iterdir() if p.suffix in (".npz", ".json"))
  if folder := os.environ.get("VDM_JAX_GOLDEN"):
    further = (p for p in pathlib.Path(folder).iterdir())
    files += sorted(p for p in further if p.suffix in (".npz", ".json"))
  return files


@pytest.mark.parametrize(
  "path", _files(), ids=lambda path: f"{path.parent.name}-{path.name}"
)
def test_golden(path):
  kind = case_lib.load(path).kind
  if kind not in runner.KINDS:
    pytest.skip(f"kind {kind} is not supported")
  report = runner.run(path)
  assert report["ok"], runner.as_line(report)


def test_every_supported_kind_has_a_tolerance():
  assert set(runner.KINDS) == set(case_lib.TOLERANCES)


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


def test_nan_equals_nan_and_nothing_else():
  nan = float("nan")
  assert case_lib.relative([nan, 1.0], [nan, 1.0]) == 0
  assert case_lib.relative([0.0, 1.0], [nan, 1.0]) == np.inf
  assert case_lib.relative([nan, 1.0], [0.0, 1.0]) == np.inf
  assert case_lib.elementwise([1.0], [1.0, 1.0]) == np.inf
