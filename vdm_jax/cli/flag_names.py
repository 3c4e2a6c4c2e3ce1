"""Puts flags in place of the arguments that an error names.

The library's errors name what a Python user passes, between backticks: an argument, as
`members` or `members=3`, or a field of the config, as `train.batch_size=4`. On the
command line those are flags.
"""

import re

from absl import flags

# Flags that are called otherwise than the argument they are for.
_FLAGS = {"tokens": "caption", "negative_tokens": "negative_caption"}

_ARGUMENT = re.compile(r"`([A-Za-z_][\w.]*)(=[^`]*)?`")


def in_flags(text: str) -> str:
  """Translates an error for the command that is running.

  `NAME` becomes --NAME and `NAME=VALUE` becomes --NAME=VALUE where the command has such
  a flag. `SECTION.FIELD=VALUE` becomes --config.SECTION.FIELD=VALUE where it takes a
  config, --set=SECTION.FIELD=VALUE where it sets fields by that. What else stands
  between backticks stays.

  Args:
    text: of the error.
  """
  known = _defined()

  def flag(match: re.Match) -> str:
    name, value = match[1], match[2] or ""
    name = _FLAGS.get(name, name)
    if name in known:
      return f"--{name}{value}"
    if "." in name and value:
      if "config" in known:
        return f"--config.{name}{value}"
      if "set" in known:
        return f"--set={name}{value}"
    return match[0]

  return _ARGUMENT.sub(flag, text)


def _defined() -> set[str]:
  """Names of the command's own flags: absl and others define some, too."""
  modules = flags.FLAGS.flags_by_module_dict().items()
  return {
    flag.name
    for module, defined in modules
    if module.startswith("vdm_jax.")
    for flag in defined
  }
