"""Flags of the commands that several processes can share, and their start."""

import jax
from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Several processes: jax.distributed, set up by the cluster."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where the cluster does not tell."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process.")
_PATIENCE = flags.DEFINE_integer(
  "coordinator_timeout", 300, "Seconds to wait for the other processes at the start.",
  lower_bound=1,
)  # fmt: skip


def start() -> None:
  """Starts JAX; with --distributed or --coordinator joins the other processes first.

  Raises:
    UserError: the coordinator does not answer, or what `common.start_jax` raises.
  """
  if _DISTRIBUTED.value or _COORDINATOR.value:
    common.start_jax(devices=False)
    try:
      jax.distributed.initialize(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        initialization_timeout=_PATIENCE.value,
      )
    except (RuntimeError, ValueError) as error:
      reason = " ".join(str(error).split())[:300]
      raise UserError(
        f"--distributed: could not join the other processes within {_PATIENCE.value} "
        f"s (coordinator {_COORDINATOR.value or 'of the cluster'}): {reason}"
      ) from error
  common.start_jax()
