"""`vdm-jax train --config=FILE --workdir=DIR [--config.section.field=value ...]`."""

import jax
from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, local or gs://.")
_INIT_FROM = flags.DEFINE_string(
  "init_from", None, "Workdir whose averaged weights a new run starts from."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Several processes: jax.distributed, set up by the cluster."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where the cluster does not tell."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process.")


def main(argv: list[str]) -> None:
  """Trains to the end, the time limit or SIGTERM; prints where the run is."""
  if len(argv) > 1:
    raise UserError(f"train takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)
  if not _WORKDIR.value:
    raise UserError("--workdir: expected a folder for the run")
  if _DISTRIBUTED.value or _COORDINATOR.value:
    common.start_jax(devices=False)
    jax.distributed.initialize(
      _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    )
  common.start_jax()

  from vdm_jax import experiment

  result = experiment.train(config, _WORKDIR.value, init_from=_INIT_FROM.value)
  if jax.process_index() == 0:
    why = {
      "steps": "all steps done",
      "time": "time limit reached",
      "signal": "stopped by a signal",
    }[result.reason]
    print(f"{why}: step {int(result.state.step)}, run in {_WORKDIR.value}")
