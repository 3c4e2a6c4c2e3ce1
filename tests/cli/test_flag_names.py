"""Errors name arguments to a Python user, flags to who types a command."""

import ast
import re

import pytest
from absl import flags

from vdm_jax.cli import flag_names

# A flag, but not one of XLA's, pip's, or the colour of a style sheet.
FLAG = re.compile(r"(?<![\w-])(?<!var\()--(?!xla_|no-deps)[a-z{]")
# Commands for a shell, in a text that names them.
COMMAND = re.compile(r"`vdm-jax [^`]*`|<pre>vdm-jax .*?</pre>", re.DOTALL)
# Functions that put commands for a shell together, word by word.
PRINTERS = {
  "data/source.py": {"build_command"},
  "interop/workdir.py": {"config_file"},
  "interop/writing.py": {"command"},
  "preflight/knobs.py": {"flags"},
  "report/listings.py": {"commands", "_overrides", "_sampling"},
  "run_data.py": {"sampling_command"},
}
# A text of its own: the style sheet.
TEXTS = {"report/document.py"}


def messages(tree, printers):
  """Yields the line and the text of every string that is no docstring."""
  if isinstance(tree, ast.FunctionDef) and tree.name in printers:
    return
  if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
    yield tree.lineno, tree.value
  elif isinstance(tree, ast.JoinedStr):
    parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in tree.values)
    yield tree.lineno, "".join(parts)
  elif isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
    return
  else:
    for child in ast.iter_child_nodes(tree):
      yield from messages(child, printers)


def test_no_message_outside_of_the_commands_names_a_flag(checkout):
  root, found, seen = checkout / "vdm_jax", [], 0
  for path in sorted(root.rglob("*.py")):
    name = str(path.relative_to(root))
    if name.startswith(("cli/", "configs/")) or name in TEXTS:
      continue
    tree = ast.parse(path.read_text())
    for line, text in messages(tree, PRINTERS.get(name, ())):
      seen += 1
      if FLAG.search(COMMAND.sub("", text)):
        found.append(f"{name}:{line}: {text}")
  assert not found
  assert seen > 1000


@pytest.mark.parametrize(
  "code",
  [
    "raise UserError('--members: expected 2')",
    "raise UserError(f'--members={n}: expected 2')",
    "raise UserError(f'--{name}: expected 2')",
    "x = 'take more, or --crps=plugin'",
    "raise UserError('c3d needs its mean (--also=FILE)')",
    "raise UserError('run `vdm-jax sample --out=X`, or take --members')",
  ],
)
def test_the_search_finds_a_flag(code):
  ((_, text),) = messages(ast.parse(code), ())
  assert FLAG.search(COMMAND.sub("", text))


def define(monkeypatch, *names):
  """Has a command with these flags run, and one of a library beside them."""
  known = flags.FlagValues()
  for name in names:
    flags.DEFINE_string(name, None, "", known, module_name="vdm_jax.cli.some")
  flags.DEFINE_string("verbosity", None, "", known, module_name="absl.logging")
  monkeypatch.setattr(flags, "FLAGS", known)


@pytest.mark.parametrize(
  ("text", "told"),
  [
    ("`members=3`: or `crps=plugin`", "--members=3: or --crps=plugin"),
    ("`members`, `crps`: expected", "--members, --crps: expected"),
    ("unknown `crps` 'x'", "unknown --crps 'x'"),
    ("`out=a b/c`: not empty", "--out=a b/c: not empty"),
    ("`profile=3:9`: expected", "--profile=3:9: expected"),
    ("`tokens`: trained without text", "--caption: trained without text"),
    ("`train.ema=(0.9, 0.99)`: x", "--config.train.ema=(0.9, 0.99): x"),
    ("`best=True` or `verbosity=1`", "`best=True` or `verbosity=1`"),
    (
      "the `video` extra; `vdm-jax plan list`",
      "the `video` extra; `vdm-jax plan list`",
    ),
    ("`jax.distributed`, `members >= 2`", "`jax.distributed`, `members >= 2`"),
    ("members=3: no `", "members=3: no `"),
  ],
)
def test_a_command_reads_flags(text, told, monkeypatch):
  define(monkeypatch, "members", "crps", "out", "profile", "caption", "config")
  assert flag_names.in_flags(text) == told


def test_fields_of_an_import_are_set_by_a_flag_of_their_own(monkeypatch):
  define(monkeypatch, "set")
  text = "`data.frame_shape=(8, 8, 1)`: x"
  assert flag_names.in_flags(text) == "--set=data.frame_shape=(8, 8, 1): x"


def test_without_flags_nothing_changes(monkeypatch):
  define(monkeypatch)
  text = "`members=3`: `train.ema=(0.9,)`"
  assert flag_names.in_flags(text) == text
