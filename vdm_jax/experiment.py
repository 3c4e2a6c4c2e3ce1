"""Runs of a config: assembles data, system, compiled programs and hooks."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from vdm_jax import processes, run_data, seeds, sharding, systems
from vdm_jax.data import device, pipeline
from vdm_jax.data import source as sources
from vdm_jax.pixels import to_float
from vdm_jax.sampling import in_training, save
from vdm_jax.storage import workdirs
from vdm_jax.training import loop, program, progress, tracing, writers


def train(
  config: Mapping[str, Any],
  workdir: str,
  *,
  init_from: str | None = None,
  command: str = "",
  profile: tracing.Range | None = None,
  wandb: str = "",
) -> loop.Result:
  """Trains the model that a config describes, or resumes its training.

  A generated data set that is missing is built first.

  Args:
    config: complete config, as a plain dict or a ConfigDict.
    workdir: folder of the run, local or gs://.
    init_from: workdir whose averaged weights a new run starts from.
    command: command that the user typed, stored beside the config.
    profile: steps to trace into `profile/` of the workdir.
    wandb: Weights & Biases project to log to as well; '' for none.

  Raises:
    UserError: config, data or workdir do not fit each other.
  """
  if isinstance(config, ConfigDict):
    # The form in which a config is stored, where tuples are lists.
    config = json.loads(config.to_json_best_effort())
  processes.agree({"config": config, "`profile`": profile, **processes.installation()})
  workdirs.check_writable(workdir)
  processes.check_shared(workdir)
  seeds.check(config["seed"], "config.seed")
  system = systems.build(config)
  programs = program.Program(system, config)
  data = config["data"]
  # Whether or not hosts share a disk, the first one builds before the others look.
  if processes.is_first():
    sources.ensure_built(data["name"], data["data_dir"] or None)
  processes.wait("data built")
  sources.ensure_built(data["name"], data["data_dir"] or None)
  split = functools.partial(run_data.open_split, config, system)
  source = split("train")
  processes.agree({"config.data": source.fingerprint})
  if processes.is_first():
    run_data.stored_captions(config, source)
  processes.wait("captions embedded")
  stored = run_data.stored_captions(config, source)
  read = _reading(config, system, programs.mesh)
  batches = device.device_iterator(
    pipeline.make_pipeline(
      source,
      system.task,
      batch_size=config["train"]["batch_size"],
      seed=config["seed"],
      captions=stored,
      **read,
    ),
    sharding.batch(programs.mesh),
  )
  hooks = loop.Hooks(
    validation=_validation(config, system, programs, split, read),
    sample=_sampling(config, system, workdir),
    measure=_measuring(config, system, workdir),
    work=_work(programs),
    writers=(lambda: [writers.WeightsAndBiases(wandb, workdir, config)])
    if wandb
    else None,
  )
  meta = workdirs.describe(
    config,
    source.fingerprint,
    text_checksum=stored.checksum if stored else "",
    command=command,
  )
  try:
    return loop.train(
      programs,
      batches,
      workdir,
      meta,
      hooks=hooks,
      init_from=init_from,
      profile=profile,
    )
  finally:
    batches.close()


def _reading(config, system, mesh):
  """Returns the arguments by which this process reads batches."""
  batch_size = config["train"]["batch_size"]
  return {
    "rows": pipeline.local_rows(sharding.batch(mesh), batch_size),
    "num_threads": config["data"]["num_threads"],
    "prefetch_bytes": config["data"]["prefetch_mb"] << 20,
    "cond": system.pipeline_cond,
    "extras": system.pipeline_extras,
  }


def _validation(config, system, programs, split, read) -> Callable | None:
  train_config = config["train"]
  if not train_config["eval_batches"]:
    return None
  if "validation" not in run_data.splits(config):
    if processes.is_first():
      print(f"no validation: {config['data']['name']} has no validation split")
    return None
  source = split("validation")
  stored = run_data.stored_captions(config, source)
  batch_size = train_config["batch_size"]

  def batches():
    examples = train_config["eval_batches"] * batch_size
    return device.device_iterator(
      pipeline.make_evaluation(
        source,
        system.task,
        batch_size=batch_size,
        num_examples=examples,
        captions=stored,
        **read,
      ),
      sharding.batch(programs.mesh),
    )

  return batches


def _sampling(config, system, workdir) -> Callable | None:
  """Makes the hook that saves samples as GIF and contact sheet under `samples/`."""
  count = config["train"]["num_samples"]
  if not count or not system.can_sample:
    return None
  given, places = None, range(system.min_given)
  if places:
    split = run_data.held_out_split(config)
    count = min(count, run_data.open_split(config, system, split).num_videos)
    given = to_float(run_data.given_clips(config, system, split, count, places))
  length = max(system.window, len(places) + system.window // 2)
  make, labels = in_training.sampler(config, system, count, length, given)

  def sample(step, params, log):
    videos = make(params)
    if not processes.is_first():
      return
    names = None if labels is None else [str(label) for label in labels]
    gif = save.save_overview(
      epath.Path(workdir) / "samples", f"step_{step:07d}", videos, captions=names
    )
    log.gif(step, "samples", gif.read_bytes(), videos.shape[1:])

  return sample


def _measuring(config, system, workdir) -> Callable | None:
  """Makes the hook that measures FVD of samples during training."""
  if not config["train"].get("eval_fvd_every", 0):
    return None
  # Imported here because evaluation is needed only by runs that measure FVD.
  from vdm_jax.evaluation import during_training

  return during_training.fvd(config, system, workdir)


def _work(programs) -> progress.Work:
  """Describes the work of a step and the peak rate of the devices."""
  # Imported here because preflight is needed only once a run trains.
  from vdm_jax.preflight import flops, peaks

  peak = peaks.peak(programs.mesh.devices.flat[0])
  return progress.Work(
    flops=lambda: flops.count(programs.step, *programs.step_arguments()),
    peak=peak and peak * programs.mesh.size,
  )
