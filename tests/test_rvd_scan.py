"""The benchmark of RVD compares the same thing twice."""

import pytest

from benchmarks import rvd_scan


@pytest.mark.integration
def test_both_sides_have_the_same_loss_and_are_timed():
  found = rvd_scan.compare("nano", turns=1)
  levels, frames = found["levels"], found["frames"]
  assert levels["loss"] == pytest.approx(frames["loss"], rel=1e-5)
  assert all(len(side[key]) == 1 for side in found.values() for key in ("wall", "cpu"))
