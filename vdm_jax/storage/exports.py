"""Exports of a run, averaged weights and config, as a folder or as one file."""

import datetime
from typing import Any

from etils import epath

from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint, weights_file, workdirs


def folder(workdir: str, out: str, **pick: Any) -> None:
  """Writes a slim folder that `sample` loads: averaged weights, config, origin.

  Args:
    workdir: workdir of a run, or an export.
    out: the new folder.
    **pick: `ema`, `step` and `best` of `workdirs.read_weights`.

  Raises:
    UserError: `out` is not empty, or the run has no checkpoint.
  """
  if str(out).endswith(weights_file.SUFFIX):
    raise UserError(f"{out}: expected a folder, found the name of a file")
  target = epath.Path(out)
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise UserError(f"{out}: not empty")
  params, meta = _read(workdir, **pick)
  step, ema = meta.pop("step"), meta.pop("ema")
  tree = {"ema": {ema: params}} if ema else {"params": params}
  checkpoints = checkpoint.Checkpoints(out, keep_last=1)
  checkpoints.save(step, tree, None, meta)
  checkpoints.close()
  workdirs.write_description(out, meta)


def file(workdir: str, out: str, **pick: Any) -> None:
  """Writes the same as one safetensors file, which `sample` and `load` read.

  Args:
    workdir: workdir of a run, or an export.
    out: the new file, whose name ends with .safetensors.
    **pick: `ema`, `step` and `best` of `workdirs.read_weights`.

  Raises:
    UserError: the name of `out` ends differently, `out` exists already, or the run has
      no checkpoint.
  """
  weights_file.check_free(out)
  params, meta = _read(workdir, **pick)
  weights_file.write(out, params, meta)


def _read(workdir: str, **pick: Any) -> tuple[Any, dict[str, Any]]:
  """Reads weights, and makes the metadata of an export, which has a single average."""
  params, info = workdirs.read_weights(workdir, **pick)
  kept = (
    "config",
    "data_fingerprint",
    "text_checksum",
    "vdm_jax",
    "jax",
    "step",
    "ema",
  )
  meta = {key: info[key] for key in kept if key in info}
  meta["config"]["train"]["ema"] = [info["ema"]] if info["ema"] else []
  meta["exported_from"] = str(workdir)
  meta["exported_at"] = datetime.datetime.now(datetime.UTC).isoformat(
    timespec="seconds"
  )
  return params, meta
