"""Flags, start and end of the commands that several processes can share."""

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax
from absl import flags

from vdm_jax import errors, processes, watch
from vdm_jax.cli import common
from vdm_jax.errors import UserError
from vdm_jax.storage.weights_file import is_one as is_file

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Run as one of several processes; the cluster sets up jax.distributed.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, if the cluster does not say."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process.")
_PATIENCE = flags.DEFINE_integer(
  "coordinator_timeout", 300, "Seconds to wait for the other processes at the start.",
  lower_bound=1,
)  # fmt: skip
_SILENCE = flags.DEFINE_integer(
  "heartbeat_timeout", 40, "Seconds after which a process that hangs ends all of them.",
  lower_bound=2,
)  # fmt: skip

# How many seconds later than ours JAX's own heartbeat, the second safety net, acts.
_LATER = 15
# Seconds after which a lost process is noticed, if it is why this one fails.
_KNOWN = 3.0

_watch: watch.Watch | None = None


def start(
  advice: Callable[[], str], programs: str | None = None, *, saves: bool = False
) -> None:
  """Starts JAX, after joining the other processes with --distributed or --coordinator.

  From then on the processes watch each other: see `vdm_jax.watch`.

  Args:
    advice: returns what to do when one of them is gone.
    programs: a folder that all of them see, below which several processes keep compiled
      programs.
    saves: whether the command asks JAX for SIGTERM, and saves; others end at once.

  Raises:
    UserError: the coordinator does not answer, or as in `common.start_jax`.
  """
  global _watch
  several = bool(_DISTRIBUTED.value or _COORDINATOR.value)
  # Nothing can be kept below an export, which is a file.
  programs = "" if not (several and programs) or is_file(programs) else programs
  if several:
    common.start_jax(devices=False, programs=programs)
    if _COORDINATOR.value and _PROCESS_ID.value:
      _wait_for(_COORDINATOR.value, _PATIENCE.value)
    # Acts before JAX would, which aborts with a dump of its stack.
    limit = threading.Timer(_PATIENCE.value, _nobody)
    limit.daemon = True
    limit.start()
    try:
      jax.distributed.initialize(
        _COORDINATOR.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        initialization_timeout=_PATIENCE.value + _LATER,
        heartbeat_timeout_seconds=_SILENCE.value + _LATER,
      )
    except (ValueError, RuntimeError, IndexError) as error:
      raise UserError(
        "--distributed: outside of a cluster that JAX knows, expected "
        "--coordinator=HOST:PORT, --num_processes=N and --process_id=I (below N): "
        + errors.reason(error, 300)
      ) from error
    finally:
      limit.cancel()
    if not saves:  # JAX has put a handler there that only takes note.
      signal.signal(signal.SIGTERM, signal.SIG_DFL)
  elif _NUM_PROCESSES.value or _PROCESS_ID.value is not None:
    raise UserError("--num_processes, --process_id: expected --coordinator with them")
  common.start_jax(programs=programs)
  if jax.process_count() > 1:
    host = _COORDINATOR.value and _COORDINATOR.value.rpartition(":")[0].strip("[]")
    _watch = watch.Watch(_SILENCE.value, advice)
    _watch.start(host)


def again() -> str:
  """Returns the advice for a job that resumes from its finished parts."""
  return "Start all processes again, with the same command: the job resumes."


def done() -> None:
  """Ends this process's part of a job; JAX then waits for the others."""
  if _watch is not None:
    _watch.done()


def failed(error: BaseException, text: str) -> None:
  """Ends this process's part of a job that failed here, before the error is reported.

  If it failed because another process is gone, the process ends here with that message.

  Args:
    error: the error that ended it.
    text: what the other processes print about it.
  """
  if _watch is None:
    return
  ours = isinstance(error, UserError) and error.__cause__ is None
  if not ours and isinstance(error, Exception):
    time.sleep(_KNOWN)
  _watch.failed(text)


def check_same_command(out: str) -> None:
  """Checks that all processes do the same and see the folder of the results.

  Raises:
    UserError: commands or installations differ, or a process does not see the folder.
  """
  command, own = [], ("--process_id", "-process_id")
  for before, argument in itertools.pairwise(sys.argv):
    if before not in own and not argument.startswith(own):
      command.append(argument)
  processes.agree({"the command": command, **processes.installation()})
  processes.check_shared(out)


def _nobody() -> None:
  """Ends this process because others have not joined in time."""
  text = (
    f"vdm-jax: error: --coordinator_timeout={_PATIENCE.value}: not all "
    f"{_NUM_PROCESSES.value or ''} processes have joined in so many seconds; is every "
    "one started, with the same --coordinator and --num_processes?\n"
  )
  os.write(2, text.encode())
  os._exit(2)


def _wait_for(address: str, seconds: float) -> None:
  """Waits until the address accepts connections; JAX would abort with a stack dump."""
  host, _, port = address.rpartition(":")
  until = time.monotonic() + seconds
  while True:
    try:
      with socket.create_connection((host, int(port)), timeout=5):
        return
    except (ValueError, OverflowError):
      raise UserError(f"--coordinator: expected HOST:PORT, found {address!r}") from None
    except OSError as error:
      if time.monotonic() > until:
        raise UserError(
          f"--coordinator={address}: does not answer within {seconds:g} s ({error}); "
          "is process 0 running there, and does a firewall let its port through?"
        ) from error
    time.sleep(0.5)
