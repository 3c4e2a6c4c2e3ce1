"""Checkpoints of a run: state, data position and metadata.

Orbax writes each checkpoint to a temporary folder and renames it once everything is on
disk, so a killed or failed save leaves nothing that could be mistaken for one.
"""

import json
import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from vdm_jax import errors
from vdm_jax.errors import UserError

FORMAT = 1

# Smallest part of an array, in bytes, that a device writes for others that hold it too.
# Smaller parts cost more to cut out than to write.
_MIN_SLICE = 1 << 20


class Checkpoints:
  """The checkpoints of one workdir.

  The latest ones are in `checkpoints/`, the best one by `train.best_by` in `best/`.
  Saves are asynchronous; `close` or `wait` makes sure that they are done.
  """

  def __init__(
    self,
    workdir: str,
    *,
    keep_last: int = 3,
    keep_every: int = 0,
    read_only: bool = False,
  ):
    """Opens the checkpoint folders, and creates them unless `read_only`.

    Args:
      workdir: folder of the run, local or gs://.
      keep_last: number of newest checkpoints to keep.
      keep_every: checkpoints at steps divisible by this are kept, too; 0 for none.
      read_only: whether it is opened for reading alone: nothing is created or deleted.
    """
    if keep_last < 1:
      raise UserError(f"config.train.keep_last: expected >= 1, found {keep_last}")
    # Orbax takes only absolute paths, which URLs such as gs:// are already.
    workdir = str(workdir)
    self._root = epath.Path(workdir if "://" in workdir else os.path.abspath(workdir))

    def manager(name, keep, period=None):
      processes = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
      return ocp.CheckpointManager(
        self._root / name,
        # Named here, they are known to a manager that has saved nothing, too.
        item_handlers={
          "state": ocp.PyTreeCheckpointHandler(
            multiprocessing_options=processes, type_handler_registry=_array_handlers()
          ),
          "data": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
          "meta": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
        },
        options=ocp.CheckpointManagerOptions(
          # Not `read_only`: that would log three warnings a folder.
          max_to_keep=None if read_only else keep,
          keep_period=None if read_only else period,
          create=not read_only,
          cleanup_tmp_directories=not read_only,
          multiprocessing_options=processes,
        ),
      )

    self._latest = manager("checkpoints", keep_last, keep_every or None)
    self._best = manager("best", 1)
    self._best_value = np.inf
    if not read_only and self._best.latest_step() is not None:
      best = self.meta(best=True)
      # Older runs could choose the best one only by the loss.
      self._best_value = best.get("best_value", best.get("validation_loss"))

  @property
  def steps(self) -> list[int]:
    """Lists the steps of the checkpoints that can be restored, oldest first."""
    return sorted(self._latest.all_steps())

  @property
  def best_step(self) -> int | None:
    return self._best.latest_step()

  def save(self, step: int, state: Any, data: Any, meta: dict[str, Any]) -> None:
    """Starts saving; raises UserError if an earlier save failed (disk full)."""
    if step in self._latest.all_steps():
      return
    self._guard(lambda: self._latest.save(step, args=_pack(state, data, meta)))

  def save_best(self, step: int, value: float, state: Any, data: Any, meta) -> None:
    """Saves this state if its value, a loss or a distance, is the lowest so far."""
    if step in self._best.all_steps() or not value < self._best_value:
      return
    meta = {**meta, "best_value": float(value)}
    # After a resume Orbax refuses steps before the best one's: that one stays the best.
    if self._guard(lambda: self._best.save(step, args=_pack(state, data, meta))):
      self._best_value = value

  def meta(self, step: int | None = None, best: bool = False) -> dict[str, Any]:
    """Reads a checkpoint's metadata: config, data fingerprint, format, versions."""
    manager, step = self._pick(step, best)
    meta = self._read(manager, step, ocp.args.Composite(meta=ocp.args.JsonRestore()))
    if meta.meta["format"] > FORMAT:
      raise UserError(
        f"{self._folder(manager, step)}: checkpoint format {meta.meta['format']}, "
        f"this vdm_jax reads up to {FORMAT}: update it"
      )
    return meta.meta

  def shapes(self, step: int | None = None, best: bool = False) -> Any:
    """Reads the tree of arrays in a checkpoint, as `jax.ShapeDtypeStruct`s."""
    manager, step = self._pick(step, best)
    try:
      tree = manager.item_metadata(step)["state"].tree
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
      raise self._unreadable(manager, step, error) from error
    return jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), dict(tree))

  def restore(
    self, shapes: Any, sharding: Any = None, step: int | None = None, best: bool = False
  ) -> tuple[Any, Any]:
    """Reads (state, data position), onto the devices of `sharding`.

    Args:
      shapes: `jax.ShapeDtypeStruct`s of what to read: a State or a part of one.
      sharding: shardings of the same structure; None for this process's first device.
      step: step of the checkpoint; default the newest.
      best: whether to read the best one.

    Raises:
      UserError: there is no checkpoint, it lacks a file, or its arrays have other
        shapes.
    """
    manager, step = self._pick(step, best)
    if sharding is None:
      one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
      sharding = jax.tree.map(lambda _: one, shapes)
    target = jax.tree.map(
      lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
      shapes,
      sharding,
    )
    found = self._read(
      manager,
      step,
      ocp.args.Composite(
        state=ocp.args.PyTreeRestore(
          item=target,
          restore_args=ocp.checkpoint_utils.construct_restore_args(target),
          partial_restore=True,
        ),
        data=ocp.args.JsonRestore(),
      ),
    )
    return found.state, found.data

  def wait(self) -> None:
    """Blocks until all saves are on disk; UserError if one failed."""
    self._guard(self._latest.wait_until_finished)
    self._guard(self._best.wait_until_finished)

  def close(self) -> None:
    self.wait()
    self._latest.close()
    self._best.close()

  def _pick(self, step, best):
    manager = self._best if best else self._latest
    steps = manager.all_steps()
    if not steps:
      raise UserError(f"{self._folder(manager)}: no checkpoint here")
    if step is None:
      return manager, max(steps)
    if step not in steps:
      raise UserError(f"{self._folder(manager)}: no step {step}, found {sorted(steps)}")
    return manager, step

  def _folder(self, manager, step=None):
    folder = self._root / ("best" if manager is self._best else "checkpoints")
    return folder if step is None else folder / str(step)

  def _read(self, manager, step, args):
    try:
      return manager.restore(step, args=args)
    except Exception as error:  # Orbax passes on any error of a file's reader.
      raise self._unreadable(manager, step, error) from error

  def _unreadable(self, manager, step, error):
    reason = errors.reason(error, 300)
    return UserError(
      f"{self._folder(manager, step)}: cannot be read, a file of it is missing or "
      f"damaged, or it belongs to another model ({reason}). Delete this folder to "
      "resume from the checkpoint before it."
    )

  def _guard(self, write):
    try:
      if jax.process_count() > 1:
        # Two concurrent saves would meet at each other's barriers.
        self._latest.wait_until_finished()
        self._best.wait_until_finished()
      return write()
    except Exception as error:
      reason = errors.reason(error, 300)
      raise UserError(
        f"{self._root}: saving a checkpoint failed ({type(error).__name__}: {reason}). "
        f"The last good ones stay: {self.steps}"
      ) from error


def newest(workdir: str) -> int | None:
  """Finds the step of a workdir's newest checkpoint, by the names of folders only."""
  folder = epath.Path(workdir) / "checkpoints"
  names = [path.name for path in folder.iterdir()] if folder.exists() else []
  found = [int(name) for name in names if name.isdigit()]
  return max(found, default=None)


def _array_handlers():
  """Makes Orbax's registry of how arrays and numbers are written."""
  handlers = ocp.type_handlers
  arrays = handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=_MIN_SLICE)
  return handlers.create_type_handler_registry(
    (jax.Array, arrays),
    (np.ndarray, handlers.NumpyHandler()),
    (int, handlers.ScalarHandler()),
    (float, handlers.ScalarHandler()),
  )


def _pack(state, data, meta):
  return ocp.args.Composite(
    state=ocp.args.PyTreeSave(state),
    data=ocp.args.JsonSave(data),
    meta=ocp.args.JsonSave({"format": FORMAT, **meta}),
  )


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
  """Lists the dotted keys at which two nested configs differ, with both values."""
  if isinstance(old, dict) and isinstance(new, dict):
    found = []
    for key in sorted({*old, *new}, key=str):
      missing = "(absent)"
      found += differences(
        old.get(key, missing), new.get(key, missing), f"{prefix}{key}."
      )
    return found
  same = json.dumps(old, default=str) == json.dumps(new, default=str)
  return [] if same else [f"{prefix[:-1]}: {old!r} there, {new!r} here"]
