"""`vdm-jax status DIR`: show what a workdir holds and how its run is doing."""

import json
import time

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_JSON = common.define_json()


def main(argv: list[str]) -> None:
  """Prints a short table, or JSON."""
  if len(argv) != 2:
    raise UserError("status: expected one workdir, as in vdm-jax status runs/mine")

  import jax

  from vdm_jax.storage import workdirs

  common.start_jax(devices=False)
  jax.config.update("jax_platforms", "cpu")  # The run itself may hold other devices.
  found = workdirs.status(argv[1])
  if _JSON.value:
    print(json.dumps(found, indent=2))
    return
  last, best = found["last_logged"], found["best_validation"]
  print(f"{found['workdir']}: {found['system']} on {found['data']}")
  if seconds := found["seconds_planned"]:
    print(f"  planned         {seconds:g} s")
  else:
    print(f"  planned steps   {found['steps_planned']}")
  print(f"  checkpoints     {found['checkpoints'] or 'none yet'}")
  if last:
    age = time.time() - last["time"]
    print(
      f"  last logged     step {last['step']}, loss {last['loss']:.4f}, "
      f"{last['steps_per_second']:.3g} steps/s, {age:.0f} s ago"
    )
    print(f"  skipped steps   {last['bad_total']:.0f}")
  if best:
    print(
      f"  best validation {best['validation_loss']:.4f} at step {best['step']}, "
      f"kept: step {found['best_checkpoint']}"
    )
  print(f"  samples         {', '.join(found['samples'][-4:]) or 'none'}")
