"""Runs of a config: assembles data, system, compiled programs and hooks."""

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
  """Trains the model that a config describes, or resumes its training.

  A generated data set that is missing is built first.

  Args:
    config: complete config, as a plain dict or a ConfigDict.
    workdir: folder of the run, local or gs://.
    init_from: workdir whose averaged weights a new run starts from.
    command: command that the user typed, stored beside the config.
    trace: steps to trace into `profile/` of the workdir.
    wandb: Weights & Biases project to log to as well; '' for none.

  Raises:
    UserError: config, data or workdir do not fit each other.
  """
  if isinstance(config, ConfigDict):
    # The form in which a config is stored, where tuples are lists.
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
  # Whether or not hosts share a disk, the first one builds before the others look.
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
  """Opens a split of the config's data set and checks it against the system.

  Raises:
    UserError: it is not built, or its frames or labels do not fit the model.
  """
  data = config["data"]
  # Configs of older runs lack the field.
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
  """Reads the frames at `places` of the first `count` videos of a split.

  Args:
    config: the model's config.
    system: the system built from it.
    split: name of a split of the config's data set.
    count: number of videos N.
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
  """Makes the caption encoder that a model was trained with, if any.

  Args:
    info: description of the model, see `sampling.load`.

  Raises:
    UserError: there is no such encoder here, or its weights differ.
  """
  config = info["config"]
  if not config["model"].get("token_dim", 0):
    return None
  data = config["data"]
  encoder = text.make_encoder(data["text_encoder"], data["max_tokens"])
  _check_width(config, encoder.dim)
  # Older runs have not stored the checksum.
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
  """Opens the embedded captions of a split, made first if missing; None without text.

  Raises:
    UserError: there is no such encoder, or its width is not the model's.
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
  """Lists the splits of the config's data set."""
  data = config["data"]
  return sources.splits(sources.locate(data["name"], data["data_dir"] or None))


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
  """Names the split of the config's data set that training sees least of."""
  found = _splits(config)
  return next(s for s in ("validation", "test", "train") if s in found)


def sampler(
  config: Mapping[str, Any],
  system: Any,
  count: int,
  length: int,
  given: np.ndarray | None,
) -> tuple[Callable[[Any], np.ndarray], np.ndarray | None]:
  """Makes a sampler for a run in training, with the same noise and labels at each call.

  Args:
    config: the run's config.
    system: the system built from it.
    count: number of videos N.
    length: frames per video T.
    given: float [N, T0, H, W, C] in [-1, 1], the first frames of each; None for none.

  Returns:
    A function that maps parameters to videos, uint8 [N, T, H, W, C], and their labels
    [N] (None for a model without labels).
  """
  model = sampling.Model(system, None, {"config": config})
  labels = None
  if system.cond.num_labels:
    labels = np.arange(count) % system.cond.num_labels

  def sample(params):
    # With one process nothing is copied, as the state is on the same mesh.
    model.set_params(params)
    try:
      videos = model.sample(
        count, length=length, label=labels, guidance=0.0, given=given
      )
    finally:
      model.set_params(None)  # Frees memory for training.
    return to_uint8(videos)

  return sample, labels


def _sampling(config, system, workdir) -> Callable | None:
  """Makes the hook that saves samples as GIF and contact sheet under `samples/`."""
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
  """Makes the hook that measures FVD of samples during training."""
  if not config["train"].get("eval_fvd_every", 0):
    return None
  # Imported here because evaluation imports this module.
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
