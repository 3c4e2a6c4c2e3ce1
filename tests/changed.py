"""`python -m tests.changed [REVISION]`: the test files that a change concerns.

Those that changed, and those that import a module that changed or are named after it;
one a line, for pytest. What a change breaks further away is found by `make test`.
"""

import ast
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A change of these concerns all; whoever makes one runs `make test`.
_SHARED = ("tests/conftest.py", "tests/helpers.py")


def changed(revision: str) -> list[str]:
  """Lists files that differ from a revision, new ones too."""
  commands = (
    ["git", "diff", "--name-only", "--diff-filter=d", revision],
    ["git", "ls-files", "--others", "--exclude-standard"],
  )
  lines = [
    subprocess.run(c, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for c in commands
  ]
  return sorted({line for text in lines for line in text.splitlines()})


def imported(path: pathlib.Path) -> set[str]:
  """Names the modules that a file imports; of `from a import b` both a and a.b."""
  found: set[str] = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
  return found


def concerned(files: list[str], root: pathlib.Path = ROOT) -> list[str]:
  """Picks the test files under `root` that changed `files` (relative) concern."""
  tests = sorted((root / "tests").rglob("test_*.py"))
  paths = [pathlib.PurePath(f) for f in files if f.endswith(".py")]
  modules = {".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in paths}
  names = {f"test_{p.stem}.py" for p in paths}
  found = []
  for test in tests:
    relative = test.relative_to(root).as_posix()
    if relative in files or test.name in names or imported(test) & modules:
      found.append(relative)
  return found


def main(arguments: list[str]) -> int:
  files = changed(arguments[0] if arguments else "HEAD")
  for shared in sorted(set(_SHARED) & set(files)):
    print(f"{shared} changed: run `make test`", file=sys.stderr)
  print("\n".join(concerned(files)))
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
