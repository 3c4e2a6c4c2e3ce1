"""From a config to a run: data, system, programs and hooks put together."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jaxlib
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import vdm_jax
from vdm_jax import processes, sampling, sharding, systems
from vdm_jax.data import captions, device, pipeline, text
from vdm_jax.data import source as sources
from vdm_jax.errors import UserError
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.sampling import save
from vdm_jax.storage import workdirs
from vdm_jax.training import loop, profile, program, progress, writers


def train(
  config: Mapping[str, Any],
  workdir: str,
  *,
  init_from: str | None = None,
  command: str = "",
  trace: profile.Range | None = None,
  wandb: str = "",
) -> loop.Result:
  """Trains what a config describes, or resumes it.

  An embedded data set that is missing is built first.

  Args:
    config: a complete config, as a plain dict or a ConfigDict.
    workdir: folder of the run, local or gs://.
    init_from: workdir whose averaged weights a new run starts from.
    command: what a user typed, to be stored beside the config.
    trace: steps to trace into `profile/` of the workdir.
    wandb: project of Weights & Biases to log to as well; '' for none.

  Raises:
    UserError: anything of the config, the data or the workdir does not fit.
  """
  if isinstance(config, ConfigDict):
    # As a config is stored: tuples are lists.
    config = json.loads(config.to_json_best_effort())
  processes.agree(
    {
      "config": config,
      "`trace`": trace,
      "vdm_jax": vdm_jax.__version__,
      "jax": jax.__version__,
      "jaxlib": jaxlib.__version__,
    }
  )
  processes.check_shared(workdir)
  system = systems.build(config)
  programs = program.Program(system, config)
  data = config["data"]
  # Hosts may share a disk or not: the first builds, the others look afterwards.
  if processes.is_first():
    sources.ensure_built(data["name"], data["data_dir"] or None)
  processes.wait("data built")
  sources.ensure_built(data["name"], data["data_dir"] or None)
  split = functools.partial(open_split, config, system)
  source = split("train")
  processes.agree({"config.data": source.fingerprint})
  if processes.is_first():
    stored_captions(config, source)
  processes.wait("captions embedded")
  stored = stored_captions(config, source)
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
      trace=trace,
    )
  finally:
    batches.close()


def open_split(
  config: Mapping[str, Any], system: Any, split: str
) -> sources.VideoSource:
  """A split of the config's data set, checked against the system.

  Raises:
    UserError: it is not built, or its frames or labels are not the model's.
  """
  data = config["data"]
  # Runs from before the field was there.
  pool = data.get("pool", 0) or 1
  source = sources.load(data["name"], data["data_dir"] or None, split, pool=pool)
  if tuple(source.frame_shape) != tuple(data["frame_shape"]):
    raise UserError(
      f"config.data.frame_shape: {tuple(data['frame_shape'])}, but frames of "
      f"{source.full_name} are {tuple(source.frame_shape)}"
    )
  labels = system.cond.num_labels
  if labels and source.num_labels != labels:
    raise UserError(
      f"config.model.num_labels: {labels}, but {source.full_name} has "
      f"{source.num_labels} labels"
    )
  return source


def given_clips(
  config: Mapping[str, Any],
  system: Any,
  split: str,
  count: int,
  places: Sequence[int],
) -> np.ndarray:
  """Frames to start from: those at `places` of the first `count` videos of a split.

  Args:
    config: of the model.
    system: of the config.
    split: of the config's data set.
    count: N.
    places: T0 frame numbers, in steps of the system's stride.

  Returns:
    uint8 [N, T0, H, W, C].

  Raises:
    UserError: the split has fewer videos, or one of them fewer frames.
  """
  source = open_split(config, system, split)
  if count > source.num_videos:
    raise UserError(
      f"{count} videos to start from: {source.full_name} {split} has "
      f"{source.num_videos}"
    )
  index = np.asarray(places) * system.stride
  for video in range(count):
    if index.max() >= source.lengths[video]:
      raise UserError(
        f"given frames up to {index.max()}: video {source.name(video)} of "
        f"{source.full_name} {split} has {source.lengths[video]} frames"
      )
  found = source.read_many([(video, index) for video in range(count)])
  return np.stack([clip["frames"] for clip in found])


def text_encoder(info: Mapping[str, Any]) -> text.TextEncoder | None:
  """The encoder of captions that a model was trained with, if any.

  Args:
    info: of the model, see `sampling.load`.

  Raises:
    UserError: there is no such encoder here, or its weights are others.
  """
  config = info["config"]
  if not config["model"].get("token_dim", 0):
    return None
  data = config["data"]
  encoder = text.make_encoder(data["text_encoder"], data["max_tokens"])
  _check_width(config, encoder.dim)
  # Runs from before it was kept have none.
  trained_with = info.get("text_checksum") or encoder.checksum
  if encoder.checksum != trained_with:
    raise UserError(
      f"text encoder {encoder.spec!r}: the model was trained with weights of checksum "
      f"{trained_with}, found {encoder.checksum}"
    )
  return encoder


def stored_captions(
  config: Mapping[str, Any], source: sources.VideoSource
) -> captions.StoredCaptions | None:
  """The embedded captions of a split, made first if need be; None without text.

  Raises:
    UserError: the encoder cannot be had, or is of another width than the model takes.
  """
  if not config["model"].get("token_dim", 0):
    return None
  data = config["data"]
  stored = captions.ensure(source, data["text_encoder"], data["max_tokens"])
  _check_width(config, stored.dim)
  return stored


def _check_width(config: Mapping[str, Any], found: int) -> None:
  width = config["model"]["token_dim"]
  if width != found:
    raise UserError(
      f"config.model.token_dim: {width}, but {config['data']['text_encoder']} gives "
      f"{found}"
    )


def _splits(config: Mapping[str, Any]) -> list[str]:
  """The splits of the config's data set."""
  data = config["data"]
  return sources.splits(sources.locate(data["name"], data["data_dir"] or None))


def _reading(config, system, mesh):
  """How this process reads batches."""
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
  if "validation" not in _splits(config):
    if processes.is_first():
      print(f"no validation: {config['data']['name']} has no validation split")
    return None
  source = split("validation")
  stored = stored_captions(config, source)
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


def held_out_split(config: Mapping[str, Any]) -> str:
  """The split of the config's data set that training sees the least of."""
  found = _splits(config)
  return next(s for s in ("validation", "test", "train") if s in found)


def sampler(
  config: Mapping[str, Any],
  system: Any,
  count: int,
  length: int,
  given: np.ndarray | None,
) -> tuple[Callable[[Any], np.ndarray], np.ndarray | None]:
  """Samples of a run that is in training: the same noise and labels at every call.

  Args:
    config: of the run.
    system: of the config.
    count: N.
    length: T, frames of a video.
    given: float [N, T0, H, W, C] in [-1, 1], the first frames of each; None for none.

  Returns:
    A function of parameters that gives uint8 [N, T, H, W, C]; and the labels [N], None
    of a model without.
  """
  model = sampling.Model(system, None, {"config": config})
  labels = None
  if system.cond.num_labels:
    labels = np.arange(count) % system.cond.num_labels

  def sample(params):
    # No copy where one process trains: the mesh is that of the state.
    model.set_params(params)
    try:
      videos = model.sample(
        count, length=length, label=labels, guidance=0.0, given=given
      )
    finally:
      model.set_params(None)  # Training wants the memory.
    return to_uint8(videos)

  return sample, labels


def _sampling(config, system, workdir) -> Callable | None:
  """Sample videos during training: GIF and contact sheet under `samples/`."""
  count = config["train"]["num_samples"]
  if not count or not system.can_sample:
    return None
  given, places = None, range(system.min_given)
  if places:
    split = held_out_split(config)
    count = min(count, open_split(config, system, split).num_videos)
    given = to_float(given_clips(config, system, split, count, places))
  length = max(system.window, len(places) + system.window // 2)
  make, labels = sampler(config, system, count, length, given)

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
  """FVD of samples during training."""
  if not config["train"].get("eval_fvd_every", 0):
    return None
  # Measuring knows of experiments; the other way round it is for those that ask.
  from vdm_jax.evaluation import during_training

  return during_training.fvd(config, system, workdir)


def _work(programs) -> progress.Work:
  """What a step asks of the devices, and what they can do."""
  # Preflight knows of training; the other way round it is for those that ask.
  from vdm_jax.preflight import flops, peaks

  peak = peaks.peak(programs.mesh.devices.flat[0])
  return progress.Work(
    flops=lambda: flops.count(programs.step, *programs.step_arguments()),
    peak=peak and peak * programs.mesh.size,
  )
