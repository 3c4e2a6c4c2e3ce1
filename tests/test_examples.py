"""What examples/ shows runs, and learns."""

import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def run(name, folder, *flags):
  done = subprocess.run(
    [sys.executable, EXAMPLES / name, *flags],
    cwd=folder,
    capture_output=True,
    text=True,
    env={
      "PATH": "/usr/bin:/bin",
      "HOME": str(folder),
      "PYTHONPATH": str(EXAMPLES.parent),
      "JAX_PLATFORMS": "cpu",
    },
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


@pytest.mark.slow
def test_vdm_in_150_lines(tmp_path):
  said = run("vdm_in_150_lines.py", tmp_path, "--seconds=40", "--out=digits.gif")
  losses = [float(text) for text in re.findall(r"loss ([\d.]+)", said)]
  assert len(losses) > 1 and losses[-1] < 0.6 * losses[0]
  assert (tmp_path / "digits.gif").stat().st_size > 1000
  lines = (EXAMPLES / "vdm_in_150_lines.py").read_text().splitlines()
  assert len(lines) <= 150
