"""The checkout itself: set-up, packaging and what a committed file may say."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest
import setuptools
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13")
TARGETS = (
  "check", "clean", "demo", "docs", "format", "lint", "test", "test-ci", "test-slow",
  "venv",
)  # fmt: skip
# Requirements of an extra that jax pins itself, exactly.
PINNED_BY_JAX = {"jax"}


@pytest.fixture
def setup_arguments(checkout, monkeypatch):
  """What setup.py calls setuptools.setup with."""
  calls = []
  monkeypatch.setattr(setuptools, "setup", lambda **kwargs: calls.append(kwargs))
  path = checkout / "setup.py"
  monkeypatch.chdir(checkout)
  exec(compile(path.read_text(), path, "exec"), {"__file__": str(path)})
  return calls[0]


@pytest.fixture
def constraints(checkout):
  lines = (checkout / "constraints.txt").read_text().splitlines()
  return [Requirement(line) for line in lines if line and not line.startswith("#")]


def committed(checkout):
  """Files that git holds or would hold."""
  command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  try:
    done = subprocess.run(command, cwd=checkout, capture_output=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("not a git checkout")
  paths = [checkout / name for name in done.stdout.decode().split("\0") if name]
  return [path for path in paths if path.is_file()]


def test_package(setup_arguments, checkout):
  project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
  assert project["name"] == "vdm_jax"
  assert project["requires-python"] == ">=3.11"
  assert project["scripts"] == {"vdm-jax": "vdm_jax.cli.main:run"}
  folders = {p.parent for p in (checkout / "vdm_jax").rglob("*.py")}
  names = {".".join(p.relative_to(checkout).parts) for p in folders}
  # A link to the checkout's configs/, which a walk may or may not follow.
  names.add("vdm_jax.configs")
  assert set(setup_arguments["packages"]) == names, "a folder lacks __init__.py"


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_cover_and_satisfy(python, setup_arguments, constraints):
  environment = {"python_version": python}
  pins = {}
  for pin in constraints:
    if pin.marker is None or pin.marker.evaluate(environment):
      (specifier,) = pin.specifier
      assert specifier.operator == "==", pin
      name = canonicalize_name(pin.name)
      assert name not in pins, f"{name} is pinned twice for Python {python}"
      pins[name] = specifier.version
  wanted = [setup_arguments["install_requires"]]
  wanted += setup_arguments["extras_require"].values()
  for requirement in map(Requirement, (r for group in wanted for r in group)):
    name = canonicalize_name(requirement.name)
    assert name in pins, f"constraints.txt lacks {name} for Python {python}"
    assert pins[name] in requirement.specifier, f"{name} {pins[name]}: {requirement}"


def imports(package):
  """(module, imported part, line) of each import of one part by another."""
  parts = {path.stem for path in package.iterdir()}
  for path in sorted(package.rglob("*.py")):
    own = path.relative_to(package).parts[0].removesuffix(".py")
    # A link to the checkout's configs/, which a walk may or may not follow.
    if own == "configs":
      continue
    for node in ast.walk(ast.parse(path.read_text())):
      named = []
      if isinstance(node, ast.Import):
        named = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"{path}:{node.lineno}: a relative import"
        named = [f"{node.module}.{alias.name}" for alias in node.names]
      for name in named:
        whole, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        if whole == "vdm_jax" and part in parts - {own}:
          yield own, part, f"{path.relative_to(package)}:{node.lineno}"


def test_imports_run_one_way(checkout):
  design = (checkout / "docs" / "design.md").read_text()
  block = design.partition("Imports run downwards only:\n\n")[2].partition("\n\n")[0]
  rows = [re.split(r",\s*", row.strip()) for row in block.split("->")]
  ranks = {part: rank for rank, row in enumerate(rows) for part in row}
  assert {"cli", "experiment", "evaluation", "systems", "frames"} < set(ranks)
  package = checkout / "vdm_jax"
  assert all((package / part).is_dir() or (package / f"{part}.py").is_file()
             for part in ranks)  # fmt: skip
  ranks |= {"__init__": -1, "__main__": -1, "configs": 0.5}
  found = list(imports(package))
  assert ("evaluation", "sampling") in {(own, part) for own, part, _ in found}
  wrong = [
    f"{where} imports {part}"
    for own, part, where in found
    # What is not in the list is below it.
    if ranks.get(own, len(rows)) >= ranks.get(part, len(rows) + 1)
  ]
  assert not wrong
  # Data knows tasks and frames, metrics know arrays; both read files of PyTorch.
  known = {own: {p for o, p, _ in found if o == own} & set(ranks) for own in ranks}
  assert known["data"] <= {"interop", "tasks", "frames"}
  assert known["metrics"] <= {"interop"}


def test_no_tensorflow(setup_arguments, constraints):
  names = {canonicalize_name(pin.name) for pin in constraints}
  for group in setup_arguments["extras_require"].values():
    names |= {canonicalize_name(Requirement(line).name) for line in group}
  assert not names & {"tensorflow", "tensorflow-cpu", "keras"}


def test_make_targets(checkout):
  for target in TARGETS:
    command = ["make", "--dry-run", target, f"PYTHON={sys.executable}"]
    # Not a child of the `make test` that may have started this.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
      command, cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_demo_seconds(checkout):
  def demo(*settings):
    command = ["make", "--dry-run", "demo", f"PYTHON={sys.executable}", *settings]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True).stdout

  assert "--seconds" not in demo()
  assert "--seconds=7" in demo("DEMO_SECONDS=7")


def test_ci_runs_the_newcomers_commands(checkout):
  text = (checkout / ".ci" / "run").read_text()
  assert os.access(checkout / ".ci" / "run", os.X_OK)
  assert "set -euo pipefail" in text
  for command in ("make lint", "make test", "make test-ci", "make docs", "make demo"):
    assert command in text


def test_marks_split_the_suite(checkout):
  settings = tomllib.loads((checkout / "pyproject.toml").read_text())
  markers = settings["tool"]["pytest"]["ini_options"]["markers"]
  names = [marker.partition(":")[0] for marker in markers]
  assert names == ["golden", "integration", "slow"]


@pytest.mark.parametrize("script", ["launch/*.sh", "launch/*.sbatch", ".ci/*"])
def test_shell_scripts_parse(checkout, script):
  paths = sorted(checkout.glob(script))
  assert paths
  for path in paths:
    subprocess.run(["bash", "-n", path], check=True)


def test_license(checkout):
  text = (checkout / "LICENSE").read_text()
  assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def test_no_file_names_this_machine_or_a_registry(checkout):
  # Put together here, so that this file passes its own test.
  machine = "/" + "work" + "/"
  hosts = ["py" + "pi.org", "python" + "hosted.org", "index" + "-url"]
  hosts += ["find" + "-links", "PIP_" + "INDEX", "hugging" + "face.co/"]
  pattern = re.compile("|".join(map(re.escape, [machine, *hosts])).encode())
  found = [
    f"{path.relative_to(checkout)}: {match[0].decode()}"
    for path in committed(checkout)
    for match in [pattern.search(path.read_bytes())]
    if match
  ]
  assert not found


def test_markers_split_at_one_python(constraints):
  # Python 3.11 has the last jax that supports it; no other split was tested.
  markers = {str(pin.marker) for pin in constraints if pin.marker}
  halves = {'python_version < "3.12"', 'python_version >= "3.12"'}
  assert markers == {str(Marker(half)) for half in halves}
