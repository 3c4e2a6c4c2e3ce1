"""Parses command lines as the commands do; prints those that are refused.

    python -m tests.parse_flags < LINES.json

LINES.json holds pairs of a page and the words of a command. Flags are global: the
modules of each command are imported in a process of its own, and each of its lines is
parsed in a further one.
"""

import importlib
import itertools
import json
import os
import sys

from vdm_jax import errors
from vdm_jax.cli import common, main


def load(command: str) -> None:
  """Imports a command.

  Raises:
    UserError: there is no such command.
  """
  if command not in main.COMMANDS:
    raise errors.unknown("command", command, main.COMMANDS)
  file = main._MODULES.get(command, command.replace("-", "_"))
  importlib.import_module(f"vdm_jax.cli.{file}")


def parse(words: list[str]) -> None:
  """Parses a command line; raises what the command would."""
  sys.argv = [f"vdm-jax {words[1]}", *common.named_configs(words[2:])]
  main._parse(sys.argv)


def apart(what: str, call, *args) -> None:
  """Calls a function in a process of its own; prints what it raises."""
  if child := os.fork():
    os.waitpid(child, 0)
    return
  try:
    call(*args)
  except Exception as error:
    print(f"{what}: {error}", flush=True)
  os._exit(0)


def parse_all(command: str, lines: list) -> None:
  """Parses the lines of one command."""
  # A demo reads overrides of its own config when it is imported.
  sys.argv = lines[0][1][1:]
  load(command)
  for page, words in lines:
    apart(f"{page}: {' '.join(words)}", parse, words)


if __name__ == "__main__":

  def by_command(line):
    return line[1][1]

  lines = sorted(json.load(sys.stdin), key=by_command)
  for command, group in itertools.groupby(lines, by_command):
    apart(command, parse_all, command, list(group))
