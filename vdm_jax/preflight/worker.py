"""Measurement in a separate process, so that a compiler crash is only a result.

The process sets the variables of `topology.environment` before anything loads the
compiler, uses no accelerator of this machine, and writes its result as JSON.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from vdm_jax import atomic
from vdm_jax.errors import UserError
from vdm_jax.preflight import gpus
from vdm_jax.preflight import topology as slices


def measure(
  config: Mapping[str, Any],
  what: str,
  topology: slices.Topology,
  batch_size: int | None = None,
  effort: str | None = None,
) -> dict[str, Any]:
  """Runs `measure.measure` for a slice in a new process, by default with little effort.

  Returns:
    The same result; or `fits` None and `error`, if the compiler failed.

  Raises:
    UserError: as there, or the compiler is not installed.
  """
  slices.check_compiler(topology)
  request = {
    "config": config,
    "what": what,
    "topology": str(topology),
    "batch_size": batch_size,
    "effort": effort,
  }
  with tempfile.TemporaryDirectory() as folder:
    asked, answered = pathlib.Path(folder, "request"), pathlib.Path(folder, "result")
    asked.write_text(json.dumps(request))
    command = [sys.executable, "-m", "vdm_jax.preflight.worker", asked, answered]
    root = str(pathlib.Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
      [str(part) for part in command],
      env={**os.environ, **slices.environment(topology), "PYTHONPATH": path},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      errors="replace",
      check=False,
    )
    if answered.exists():
      result = json.loads(answered.read_text())
      if "user_error" in result:
        raise UserError(result["user_error"])
      return result
  return {"fits": None, "error": _died(run.returncode, run.stderr)}


def _died(code: int, log: str) -> str:
  why = f"exit status {code}"
  if code < 0:
    why = f"killed by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
      why += " (this machine's memory may be full)"
  last = "\n".join(log.strip().splitlines()[-20:])
  return f"the compiler's process ended: {why}\n{last}"


def main(asked: str, answered: str) -> None:
  """Reads a request, measures, and writes the result."""
  import jax

  from vdm_jax.preflight import measure as measuring

  # A cached program would give a wrong compile time.
  jax.config.update("jax_enable_compilation_cache", False)
  request = json.loads(pathlib.Path(asked).read_text())
  try:
    topology = slices.parse(request["topology"])
    result = measuring.measure(
      request["config"],
      request["what"],
      slices.devices(topology),
      chip=topology.chip,
      chips=topology.num_chips,
      usable=topology.chip.usable,
      batch_size=request["batch_size"],
      effort=request["effort"] or measuring.LITTLE,
    )
    result["remarks"] = gpus.remarks() if topology.is_gpu else []
  except UserError as error:
    result = {"user_error": str(error)}
  # All or nothing, as a crash at exit must not leave half a result.
  atomic.write(answered, json.dumps(result))


if __name__ == "__main__":
  main(*sys.argv[1:])
