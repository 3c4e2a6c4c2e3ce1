"""Common parts of tests of README and pages: their code, and how it is run."""

import pathlib
import re

from tests.helpers import ROOT, vdm_jax

__all__ = ["ROOT", "commands", "python_blocks", "run"]
# Programs that begin a command in an indented block.
PROGRAMS = "vdm-jax|python|pip|make|launch/|sbatch|kubectl|export"
_FENCE = re.compile(r"\s*```+(\w*)")
_INDENTED = re.compile(rf" {{4,}}(?:[A-Z_]+=\S+ )*(?:{PROGRAMS})")


def commands(path: pathlib.Path) -> list[str]:
  """Lists the commands of a page: of its bash blocks and of its indented ones.

  A command over several lines, each but the last ending in a backslash, is one.
  """
  found, fence, unfinished = [], None, ""
  for line in path.read_text().splitlines():
    if match := _FENCE.match(line):
      fence = None if fence is not None else match[1] or "text"
      continue
    text = line.strip()
    begins = fence == "bash" or (fence is None and _INDENTED.match(line))
    if unfinished or (begins and text and not text.startswith("#")):
      unfinished += text
      if text.endswith("\\"):
        unfinished = unfinished[:-1]
        continue
      found.append(re.sub(r"\s+#.*$", "", unfinished))
      unfinished = ""
  return found


def python_blocks(path: pathlib.Path) -> list[str]:
  """Lists the Python blocks of a page."""
  return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def run(words: list[str], folder: pathlib.Path) -> str:
  """Runs `vdm-jax` in a folder, with data sets of its own; returns what it printed."""
  return vdm_jax(*words[1:], cwd=folder, data_dir=folder / "data").stdout
