"""The contents of a workdir besides checkpoints, and the comparison of two runs."""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import jax
from etils import epath

import vdm_jax
from vdm_jax import atomic, errors, processes
from vdm_jax.errors import UserError
from vdm_jax.storage import checkpoint, weights_file

# Config keys (and all below them) that a resumed run may change: where and how fast it
# runs, what it reports, how long it trains. All other keys define the run.
FREE = (
  "data.data_dir",
  "data.num_threads",
  "data.prefetch_mb",
  "mesh",
  "model.attention",
  "model.time_attention",
  "model.remat",
  "plan",
  "preflight",
  "sampling",
  "train.accumulate",
  "train.checkpoint_every",
  "train.eval_batches",
  "train.eval_every",
  "train.eval_fvd_clips",
  "train.eval_fvd_every",
  "train.keep_every",
  "train.keep_last",
  "train.log_every",
  "train.max_bad_steps",
  "train.max_seconds",
  "train.num_samples",
  "train.num_steps",
  "train.sample_every",
)

# Fields that were added since the first runs and are off at another value than a falsy
# one: that by which a config without them is read.
_NEUTRAL = {
  "model.padding_in_norm": True,
  "model.patch": 1,
  "model.residual_scale": 1.0,
  "optimizer.decay_by": "steps",
  "optimizer.decay_rate": 0.9999,  # Of 'exponential', which has it from the start.
  "train.best_by": "loss",
}


def describe(
  config: Mapping[str, Any],
  fingerprint: str,
  *,
  text_checksum: str = "",
  command: str = "",
) -> dict[str, Any]:
  """Makes the metadata that is stored beside each checkpoint.

  Args:
    config: config of the run.
    fingerprint: fingerprint of its data.
    text_checksum: checksum of the encoder of captions; '' for none.
    command: command that the user typed; '' for none.
  """
  return {
    "config": json.loads(json.dumps(config, default=str)),
    "data_fingerprint": fingerprint,
    "text_checksum": text_checksum,
    **({"command": command} if command else {}),
    "vdm_jax": vdm_jax.__version__,
    "jax": jax.__version__,
  }


def check_same_run(
  old: Mapping[str, Any], new: Mapping[str, Any], workdir: str
) -> None:
  """Checks that a run may resume in a workdir.

  Raises:
    UserError: the workdir is of another run; names each key, or the data, that differs.
  """
  found = [
    line
    for line in checkpoint.differences(
      _with_fields_off(old["config"], new["config"]), new["config"]
    )
    if not any(line.startswith((f"{key}:", f"{key}.")) for key in FREE)
  ]
  if found:
    raise UserError(
      f"{workdir} holds a run of another config. Differing: {'; '.join(found)}. "
      "Use another `workdir` (with `init_from` to start from these weights)."
    )
  if old["data_fingerprint"] != new["data_fingerprint"]:
    raise UserError(
      f"{workdir} was trained on other data of the same name: fingerprint "
      f"{old['data_fingerprint']} there, {new['data_fingerprint']} here"
    )
  if old.get("text_checksum", "") not in ("", new["text_checksum"]):
    raise UserError(
      f"{workdir} was trained with other weights of its text encoder: checksum "
      f"{old['text_checksum']} there, {new['text_checksum']} here"
    )


def _with_fields_off(old: Any, new: Any, prefix: str = "") -> Any:
  """Adds to an old config the fields that only the new one has and that are off.

  A field that was added since then, and is off, changes nothing.
  """
  if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
    return old

  def is_off(key, value):
    path = f"{prefix}{key}"
    return value == _NEUTRAL[path] if path in _NEUTRAL else not value

  added = {k: v for k, v in new.items() if k not in old and is_off(k, v)}
  known = {
    key: _with_fields_off(value, new.get(key), f"{prefix}{key}.")
    for key, value in old.items()
  }
  return {**added, **known}


def check_writable(workdir: str) -> None:
  """Checks, making nothing, that a workdir can be made or written.

  Raises:
    UserError: it is no folder, cannot be made where it is wanted, or not be written.
  """
  if "://" in str(workdir):
    return
  there = os.path.abspath(workdir)
  while not os.path.exists(there):
    there = os.path.dirname(there)
  if not os.path.isdir(there):
    raise _unusable(workdir, f"{there} is no folder")
  if not os.access(there, os.W_OK | os.X_OK):
    raise _unusable(workdir, f"{there} may not be written")


def _unusable(workdir: str, why: str) -> UserError:
  return UserError(
    f"`workdir={workdir}`: expected a folder that can be written, found: {why}"
  )


def _lock_file(workdir: str) -> IO[str]:
  path = epath.Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    return open(path / ".lock", "a+")
  except OSError as error:
    raise _unusable(workdir, errors.reason(error)) from error


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
  """Locks a workdir against a second run, for the life of this process at most.

  A workdir in a bucket, or on a file system without locks, is not locked.

  Raises:
    UserError: another run holds the lock, or the workdir cannot be written.
  """
  if "://" in str(workdir):
    yield
    return
  with _lock_file(workdir) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(
        f"{workdir}: another run trains here ({file.read().strip() or 'starting'}); "
        "wait for it, stop it, or choose another `workdir`"
      ) from None
    except OSError as error:
      if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
        raise
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield


def write_description(workdir: str, meta: Mapping[str, Any]) -> None:
  """Writes the config to `config.json`, for people to read."""
  path = epath.Path(workdir)
  path.mkdir(parents=True, exist_ok=True)
  atomic.write(path / "config.json", json.dumps(meta, indent=2) + "\n")


# (shapes of the weights, config) -> their shardings.
Place = Callable[[Any, Mapping[str, Any]], Any]


def read_weights(
  workdir: str,
  *,
  ema: str | None = None,
  step: int | None = None,
  best: bool = False,
  place: Place | None = None,
) -> tuple[Any, dict]:
  """Reads averaged weights of a run or an export.

  Args:
    workdir: workdir of a run, or an export: a folder, or a .safetensors file.
    ema: rate of the average to take; default the first one, or the raw parameters if
      the run has none.
    step: of the checkpoint; default the newest.
    best: take the best checkpoint, by `train.best_by`; then there is no `step`.
    place: where they go, at once, so that no device holds more than its part; default
      the host's first device.

  Returns:
    (params, info), where info has `config`, `step`, `ema` and the other metadata.

  Raises:
    UserError: there is nothing to load, no average of this rate, or both `step` and
      `best` are given.
  """
  if best and step is not None:
    raise UserError(
      f"`step={step}` and `best={best}`: expected one of them, as there is one best "
      "checkpoint"
    )
  if weights_file.is_one(workdir):
    return _read_file(workdir, ema, step, best, place)
  root = epath.Path(workdir)
  if not root.exists():
    raise UserError(f"{workdir}: no such workdir")
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  if best:
    step = checkpoints.best_step
  elif step is None and checkpoints.steps:
    step = checkpoints.steps[-1]
  meta = checkpoints.meta(step, best)
  rates = [str(r) for r in meta["config"]["train"]["ema"]]
  if ema is not None and ema not in rates:
    raise UserError(f"{workdir}: no average of rate {ema}, found {rates or 'none'}")
  name = ema or (rates[0] if rates else None)
  shapes = checkpoints.shapes(step, best)
  shapes = shapes["ema"][name] if name else shapes["params"]
  where = place(shapes, meta["config"]) if place else None

  def part(tree):
    return {"ema": {name: tree}} if name else {"params": tree}

  found, _ = checkpoints.restore(
    part(shapes), part(where) if place else None, step=step, best=best
  )
  params = found["ema"][name] if name else found["params"]
  return params, {**meta, "step": step, "ema": name}


def _read_file(
  path: str, ema: str | None, step: int | None, best: bool, place: Place | None
) -> tuple[Any, dict]:
  """Does `read_weights` for a file, which holds one step and one average."""
  params, info = weights_file.read(path)
  if best or step not in (None, info["step"]):
    raise UserError(
      f"{path}: holds the weights of step {info['step']} alone, which cannot be chosen "
      f"otherwise; asked for {'the best' if best else f'step {step}'}"
    )
  if ema not in (None, info["ema"]):
    raise UserError(
      f"{path}: no average of rate {ema}, found {info['ema'] or 'raw parameters'}"
    )
  where = place(params, info["config"]) if place else jax.local_devices()[0]
  return jax.device_put(params, where), info


def warm_start(state: Any, workdir: str) -> Any:
  """Puts another run's averaged weights into a new state if names and shapes match.

  Prints what does not match; raises UserError if nothing does.
  """
  here = dict(jax.tree_util.tree_leaves_with_path(state.params))

  elsewhere = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def place(shapes, config):
    """Puts what fits where it will be."""
    del config

    def leaf(path, shape):
      fits = path in here and here[path].shape == shape.shape
      return here[path].sharding if fits else elsewhere

    return jax.tree_util.tree_map_with_path(leaf, shapes)

  params, _ = read_weights(workdir, place=place)
  old = dict(jax.tree_util.tree_leaves_with_path(params))
  missing, misshaped = [], []

  def take(path, leaf):
    found = old.pop(path, None)
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    if found is None:
      missing.append(name)
      return leaf
    if found.shape != leaf.shape:
      misshaped.append(f"{name} ({found.shape} there, {leaf.shape} here)")
      return leaf
    return found.astype(leaf.dtype)

  taken = jax.tree_util.tree_map_with_path(take, state.params)
  unused = [jax.tree_util.keystr(p, simple=True, separator="/") for p in old]
  total = len(jax.tree.leaves(state.params))
  kept = total - len(missing) - len(misshaped)
  if not kept:
    raise UserError(f"`init_from={workdir}`: none of its weights fits this model")
  if not processes.is_first():
    return _replaced(state, taken)
  print(f"init_from {workdir}: {kept} of {total} arrays taken")
  for kind, names in (
    ("not there, left at initialisation", missing),
    ("of another shape, left at initialisation", misshaped),
    ("there but not in this model", unused),
  ):
    for name in names:
      print(f"  {kind}: {name}")
  return _replaced(state, taken)


def _replaced(state: Any, params: Any) -> Any:
  copies = {rate: jax.tree.map(lambda p: p + 0, params) for rate in state.ema}
  return state.replace(params=params, ema=copies)


def status(workdir: str) -> dict[str, Any]:
  """Describes the contents and progress of a workdir, for `vdm-jax status`.

  Raises:
    UserError: the workdir holds no run.
  """
  root = epath.Path(workdir)
  if not (root / "config.json").exists():
    raise UserError(f"{workdir}: no run here (no config.json)")
  meta = json.loads((root / "config.json").read_text())
  lines = read_metrics(workdir)
  training = [line for line in lines if line["loss"] is not None]
  validation = [line for line in lines if "validation_loss" in line]
  checkpoints = checkpoint.Checkpoints(workdir, read_only=True)
  return {
    "workdir": str(workdir),
    "system": meta["config"]["system"],
    "data": meta["config"]["data"]["name"],
    "steps_planned": meta["config"]["train"]["num_steps"],
    # Limit of a run that stops by time; 0 for others.
    "seconds_planned": meta["config"]["train"].get("max_seconds", 0.0),
    "checkpoints": checkpoints.steps,
    "best_checkpoint": checkpoints.best_step,
    "last_logged": training[-1] if training else None,
    "best_validation": min(
      validation, key=lambda x: x["validation_loss"], default=None
    ),
    "samples": sorted(p.name for p in (root / "samples").glob("*"))
    if (root / "samples").exists()
    else [],
  }


def read_metrics(workdir: str) -> list[dict[str, Any]]:
  """Reads the lines of a workdir's metrics.jsonl, without damaged ones."""
  return scan_metrics(workdir)[0]


def scan_metrics(workdir: str) -> tuple[list[dict[str, Any]], list[int]]:
  """Reads the lines of a workdir's metrics.jsonl, and finds the damaged ones.

  Returns:
    The readable lines (none if there is no file), those of one step as one; and the
    numbers, from 1, of those that are not a JSON object with a step.
  """
  path = epath.Path(workdir) / "metrics.jsonl"
  if not path.exists():
    return [], []
  lines, damaged = [], []
  for number, text in enumerate(path.read_bytes().splitlines(), start=1):
    try:
      line = json.loads(text)
    except (ValueError, RecursionError):  # Not JSON, or not UTF-8.
      line = None
    if not isinstance(line, dict) or not isinstance(line.get("step"), int):
      damaged.append(number)
    elif lines and lines[-1]["step"] == line["step"]:
      lines[-1] |= line
    else:
      lines.append(line)
  return lines, damaged
