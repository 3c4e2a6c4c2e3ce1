"""`vdm-jax train --config=FILE --workdir=DIR [--config.section.field=value ...]`."""

import shlex
import sys

import jax
from absl import flags

from vdm_jax.cli import common, distributed
from vdm_jax.errors import UserError

_CONFIG = common.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://.")
_INIT_FROM = flags.DEFINE_string(
  "init_from", None, "Workdir whose averaged weights a new run starts from."
)
_PROFILE = flags.DEFINE_string(
  "profile",
  None,
  "Steps FIRST:LAST to trace into WORKDIR/profile, for TensorBoard and Perfetto.",
)
_EXIT_ON_SIGNAL = flags.DEFINE_integer(
  "exit_on_signal",
  0,
  "Exit status after a signal; a cluster starts what does not end with 0 again.",
  lower_bound=0,
  upper_bound=255,
)
_WANDB = flags.DEFINE_string(
  "wandb",
  "",
  "Project of Weights & Biases to log to, too (extra wandb); WANDB_MODE=offline "
  "needs no network.",
)


def main(argv: list[str]) -> int:
  """Trains to the end, the time limit or SIGTERM; prints what to do next."""
  if len(argv) > 1:
    raise UserError(f"train takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)
  if not _WORKDIR.value:
    raise UserError("--workdir: expected a folder for the run")
  from vdm_jax.training import tracing, writers

  # Checked before anything that takes long.
  profile = tracing.parse(_PROFILE.value) if _PROFILE.value is not None else None
  if _WANDB.value:
    writers.check_installed(_WANDB.value)
  distributed.start(
    lambda: _advice(_WORKDIR.value), programs=_WORKDIR.value, saves=True
  )

  from vdm_jax import experiment, processes, run_data
  from vdm_jax.preflight import estimate

  estimate.check(config, jax.devices())
  result = experiment.train(
    config,
    _WORKDIR.value,
    init_from=_INIT_FROM.value,
    command=shlex.join(["vdm-jax", "train", *sys.argv[1:]]),
    profile=profile,
    wandb=_WANDB.value,
  )
  if processes.is_first():
    why = {
      "steps": "all steps done",
      "time": "time limit reached",
      "signal": "stopped by a signal",
    }[result.reason]
    workdir = _WORKDIR.value
    print(f"{why}: step {int(result.state.step)}, run in {workdir}")
    if result.reason == "signal":
      print("the same command resumes it")
    else:
      sample = run_data.sampling_command(config, workdir)
      print(
        f"next: vdm-jax report {shlex.quote(workdir)}" + f"; {sample}" * bool(sample)
      )
  return _EXIT_ON_SIGNAL.value if result.reason == "signal" else 0


def _advice(workdir: str) -> str:
  """Returns what to do when a process of the run is gone."""
  from vdm_jax.storage import checkpoint

  step = checkpoint.newest(workdir)
  where = f"from its checkpoint of step {step}" if step else "at its first step"
  return f"Start all processes again, with the same command: the run resumes {where}."
