"""`vdm-jax COMMAND`: runs a command, and reports a user's mistake in one line."""

import importlib
import os
import re
import sys
from typing import Any

COMMANDS = {
  "data": "build, list and show data sets",
  "train": "train a model, or resume its training",
  "sample": "sample videos from a trained model",
  "plan": "show, list and optimize sampling plans",
  "eval": "measure samples or a run by a protocol",
  "weights": "list and import the weights of networks for metrics",
  "status": "show what a workdir holds and how its run is doing",
  "report": "write a page about a run, or about two side by side",
  "export": "write averaged weights: a folder, one file, or for the authors' code",
  "import": "read a published PyTorch checkpoint",
  "doctor": "show what this machine has, and how fast it is",
  "preflight": "check whether a config fits an accelerator, and how fast it could be",
  "demo": "train on moving digits and show that it works",
  "cascade-demo": "VDM: a caption becomes a long and large video, by two models",
  "long-demo": "FDM: one digit for 100 frames, by three sampling plans",
  "maze-demo": "FDM: train in a maze, sample a long walk, draw it on the map",
  "tasks-demo": "RaMViD: one model predicts, infills, up-samples and generates",
  "forecast-demo": "RVD: forecast digits with and without the residual",
}

# Commands with a module of another name; `import` is a keyword of Python.
_MODULES = {"import": "import_weights"}


def run(argv: list[str] | None = None) -> None:
  """Runs the console command; exits 0, 2 for a user's mistake, 1 for anything else.

  Of several processes all exit 2 if one fails, and 75 if one is lost (`watch`).
  """
  argv = sys.argv[1:] if argv is None else argv
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(
      "usage: vdm-jax COMMAND [ARGUMENTS]; vdm-jax COMMAND --help shows its flags\n"
    )
    for name, summary in COMMANDS.items():
      print(f"  {name:14} {summary}")
    sys.exit(0 if argv else 2)
  name, rest = argv[0], argv[1:]
  # TensorFlow, if it is installed, would allocate the accelerator's memory.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

  from absl import app

  from vdm_jax import errors

  try:
    if name not in COMMANDS:
      raise errors.unknown("command", name, COMMANDS)
    file = _MODULES.get(name, name.replace("-", "_"))
    module = importlib.import_module(f"vdm_jax.cli.{file}")
    if set(rest) & {"-h", "--help"}:
      print(_help(module))
      return
    from vdm_jax.cli import common

    # ml_collections itself reads the overrides of a config from sys.argv.
    sys.argv = [f"vdm-jax {name}", *common.named_configs(rest)]
    app.run(_checked(module.main), argv=sys.argv, flags_parser=_parse)
  except errors.UserError as error:
    _fail(_told(error))


def _help(module) -> str:
  """Returns a command's description, its flags and those it shares."""
  from absl import flags

  modules = (module.__name__, "vdm_jax.cli.distributed", "vdm_jax.cli.common")
  helps = [flags.FLAGS.module_help(name) for name in modules if name in sys.modules]
  return "\n".join([module.__doc__ + helps[0], *helps[1:]])


def _parse(argv):
  """Parses the flags, and names a wrong one or an unknown config field."""
  from absl import flags

  from vdm_jax import errors

  try:
    return flags.FLAGS(argv)
  except Exception as error:  # A config file may raise anything.
    text = str(error).replace("\\n", "\n").replace("\\'", "'")
    raise errors.UserError(f"flags: {_without_trace(text)}") from error


def _without_trace(text: str) -> str:
  """Returns one line of an error that may quote the traceback of a config file."""
  lines = text.splitlines()
  if any(line.startswith("Traceback ") for line in lines):
    place = re.findall(r'^ +File "(.+)", line (\d+)', text, re.MULTILINE)[-1:]
    lines = [line for line in lines if not line.startswith(("Traceback ", " "))]
    known = "vdm_jax.errors.UserError: "
    if any(line.startswith(known) for line in lines):
      lines = [line.removeprefix(known) for line in lines]
    else:
      lines += [f"({file}, line {number})" for file, number in place]
  return " ".join(" ".join(lines).split())


def _checked(main):
  """Wraps main to report a user's mistake in one line instead of a traceback."""
  from vdm_jax import errors

  def call(argv):
    try:
      result = main(argv)
      _others("done")
      return result
    except KeyboardInterrupt as error:
      _others("failed", error, _told(error))
      raise
    except Exception as error:
      _others("failed", error, _told(error))
      if isinstance(error, errors.UserError):
        _fail(_told(error))
      # JAX's error on any device, whose class differs between releases.
      if not str(error).startswith("RESOURCE_EXHAUSTED"):
        raise
      _fail(_out_of_memory(str(error)))

  return call


def _told(error: BaseException) -> str:
  """Returns an error's text; a UserError's with flags in place of arguments."""
  from vdm_jax import errors
  from vdm_jax.cli import flag_names

  text = str(error) or type(error).__name__
  return flag_names.in_flags(text) if isinstance(error, errors.UserError) else text


def _others(what: str, *error: Any) -> None:
  """Informs the other processes of a job, if the command can have any."""
  if module := sys.modules.get("vdm_jax.cli.distributed"):
    getattr(module, what)(*error)


def _out_of_memory(text: str) -> str:
  """Returns what to do if memory is exhausted."""
  wanted = re.search(r"(\d{6,}) bytes", text)
  size = f"{int(wanted[1]) / 2**30:.2f} GiB more were" if wanted else "more was"
  return (
    f"out of memory: {size} needed than the device has. Checkpoints are kept. To save "
    "memory: a smaller batch (--config.train.batch_size; for samples --batch_size), "
    "the same batch in N parts (--config.train.accumulate=N), keeping less for the "
    "backward pass (--config.model.remat=block), fewer or smaller frames "
    "(config.task.num_frames, config.data.frame_shape), or fewer channels "
    "(config.model.channels). `vdm-jax preflight` shows what fits."
  )


def _fail(text: str) -> None:
  print(f"vdm-jax: error: {text}", file=sys.stderr)
  sys.exit(2)


if __name__ == "__main__":
  run()
