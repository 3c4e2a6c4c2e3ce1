"""`vdm-jax sample --workdir=DIR --num_videos=N --out=DIR2`.

Frames to start from come from a clip (--given) or from the videos of a split of the
run's data set (--split), one per sample. If a job is stopped, the same command resumes
it.

With --then=RUN2 a second model makes the videos longer or larger, and so on: a cascade.
The videos of each stage but the last are kept in OUT/stage_N.
"""

import dataclasses

from absl import flags

from vdm_jax import key_values
from vdm_jax.cli import common, distributed
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Run or export to sample from.")
_OUT = flags.DEFINE_string("out", None, "New folder for the samples.")
_NUM_VIDEOS = flags.DEFINE_integer(
  "num_videos", None, "Number of videos; default one per line of --captions, or 8.",
  lower_bound=1,
)  # fmt: skip
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 16, "Number of videos sampled at a time.", lower_bound=1
)
_WHOLE = flags.DEFINE_bool(
  "whole", False, "Run a roll-out as one program, which stops only between batches."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sampling noise.")
_LENGTH = flags.DEFINE_integer("length", None, "Frames per video; default the window.")
_LABEL = flags.DEFINE_list("label", None, "Class of all videos, or of each.")
_CAPTION = flags.DEFINE_string("caption", None, "Text that describes all videos.")
_CAPTIONS = flags.DEFINE_string(
  "captions",
  None,
  "Text file with one caption per line, for one video after the other.",
)
_NEGATIVE = flags.DEFINE_string(
  "negative_caption", None, "Text that guidance moves away from."
)
_GIVEN = flags.DEFINE_string("given", None, "Clip (video, GIF, folder) to start from.")
_SPLIT = flags.DEFINE_string(
  "split", None, "Split of the run's data with the videos to start from; default test."
)
_GIVEN_FRAMES = flags.DEFINE_string(
  "given_frames", None, "Frames of the clip or videos that are given, as 0:4 or 0,4,8."
)
_NUM_OBS = flags.DEFINE_integer(
  "num_obs", None, "Number of given frames at the start; short for --given_frames=0:N.",
  lower_bound=0,
)  # fmt: skip
_PLAN = flags.DEFINE_string(
  "plan", None, "Sampling plan, see `vdm-jax plan list`; default the config's."
)
_PLAN_OPTIONS = flags.DEFINE_multi_string(
  "plan_option", [], "Option of the plan as KEY=VALUE, beside the flags below."
)
_OPTIONS = {
  "overlap": flags.DEFINE_integer(
    "overlap", None, "Number of frames that two windows share (blocks)."
  ),
  "keep": flags.DEFINE_integer(
    "keep",
    None,
    "Largest number of frames that a window adds; others are drafts (blocks).",
  ),
  "max_frames": flags.DEFINE_integer(
    "max_frames", None, "Largest number of frames in a window, given ones included."
  ),
  "step_size": flags.DEFINE_integer(
    "step_size", None, "Number of frames that a window adds."
  ),
  "embedding": flags.DEFINE_string(
    "embedding",
    None,
    "Embedding by which adaptive plans compare frames; default pixels.",
  ),
}
_THEN = flags.DEFINE_multi_string(
  "then", [], "Run whose model makes the videos longer or larger; may be repeated."
)
_THEN_SAMPLING = flags.DEFINE_multi_string(
  "then_sampling", [], "Sampling setting of those runs as KEY=VALUE."
)
_EMA = flags.DEFINE_string(
  "ema", None, "Rate of the average to use; default the first."
)
_STEP = flags.DEFINE_integer(
  "step", None, "Step of the checkpoint; default the newest."
)
_BEST = flags.DEFINE_bool("best", False, "Use the best checkpoint, by train.best_by.")
_FPS = flags.DEFINE_float("fps", 8.0, "Frames per second of the videos.")

# Fields of SamplerSettings; if a flag is not given, the config's value applies.
_SETTINGS = {
  "sampler": flags.DEFINE_string(
    "sampler", None, "Sampler: ancestral, ddim, dpmpp_2m or langevin."
  ),
  "steps": flags.DEFINE_integer(
    "steps", None, "Number of noise levels; default the config's."
  ),
  "respacing": flags.DEFINE_string(
    "respacing",
    None,
    "Steps of a discrete schedule, instead of --steps: ddim50 or 10,15,20.",
  ),
  "gamma": flags.DEFINE_float(
    "gamma", None, "Variance of ancestral steps, from the least (0) to the most (1)."
  ),
  "eta": flags.DEFINE_float(
    "eta", None, "Noise of ddim, from 0 (none) to 1 (ancestral)."
  ),
  "langevin_delta": flags.DEFINE_float(
    "langevin_delta", None, "Step size of the sampler langevin."
  ),
  "threshold": flags.DEFINE_string(
    "threshold", None, "Threshold of estimated pixels: none, static or dynamic."
  ),
  "percentile": flags.DEFINE_float(
    "percentile", None, "Quantile of the dynamic threshold, 0..1."
  ),
  "guidance": flags.DEFINE_float(
    "guidance", None, "Weight w in (1 + w) conditional - w unconditional; 0 is none."
  ),
  "method": flags.DEFINE_string(
    "method", None, "Method for given frames (VDM): replacement or reconstruction."
  ),
  "reconstruction_weight": flags.DEFINE_float(
    "reconstruction_weight",
    None,
    "Weight w_r towards given frames; 0: replacement alone.",
  ),
  "resample": flags.DEFINE_integer(
    "resample", None, "How often each step is taken if frames are given (RePaint)."
  ),
  "restore_given": flags.DEFINE_bool(
    "restore_given", None, "Whether given frames are returned as they were given."
  ),
}


def main(argv: list[str]) -> None:
  """Samples and writes, stage after stage; prints the path of the videos."""
  if len(argv) > 1:
    raise UserError(f"sample takes flags only, found {argv[1]!r}")
  if not _WORKDIR.value or not _OUT.value:
    raise UserError("sample: expected --workdir=DIR and --out=DIR2")

  from vdm_jax.sampling import save

  save.check_free(_OUT.value)
  distributed.start(distributed.again, programs=_WORKDIR.value)
  distributed.check_same_command(_OUT.value)

  from vdm_jax import sampling
  from vdm_jax.sampling import cascade
  from vdm_jax.sampling import model as loaded

  model = sampling.load(
    _WORKDIR.value, ema=_EMA.value, step=_STEP.value, best=_BEST.value
  )
  models = [model, *(sampling.load(workdir) for workdir in _THEN.value)]
  loaded.check_same(models)
  captions = _captions()
  num_videos = _NUM_VIDEOS.value or (len(captions) if _CAPTIONS.value else 8)
  captions = _of_videos(captions, num_videos)
  places = _places()
  given, origin = _given(model, places, num_videos)
  labels = _labels(num_videos)
  settings = {name: flag.value for name, flag in _SETTINGS.items()}
  signals = [
    _signals(model, labels, captions, optional=bool(number))
    for number, model in enumerate(models)
  ]
  if _THEN_SAMPLING.value and not _THEN.value:
    raise UserError(
      "--then_sampling: is for the models of --then, of which there is none"
    )
  later = key_values.parse(_THEN_SAMPLING.value, "then_sampling")
  cascade.check(models, num_videos, signals, settings, later, _LENGTH.value)
  _check_fit(models, signals, settings, later, num_videos, bool(places))
  cascade.run(
    models,
    num_videos,
    _OUT.value,
    signals=signals,
    later=later,
    seed=_SEED.value,
    batch_size=_BATCH_SIZE.value,
    told={
      "caption": captions,
      "negative_caption": _NEGATIVE.value,
      "given": origin,
    },
    fps=_FPS.value,
    progress=True,
    written=_tell,
    length=_LENGTH.value,
    given=given,
    given_frames=places,
    plan=_PLAN.value,
    plan_options=_plan_options(),
    whole=_WHOLE.value,
    **settings,
  )


def _tell(folder, count, seconds):
  """Prints where the videos of a stage are."""
  print(
    f"{count} videos in {seconds:.1f} s ({seconds / count:.2f} s each): "
    f"{folder}/sheet.gif, {folder}/videos.npz"
  )


def _check_fit(models, signals, settings, later, num_videos, given):
  """Raises for batches that cannot fit, before anything is compiled."""
  import jax

  from vdm_jax import processes
  from vdm_jax.preflight import estimate

  for number, (model, named) in enumerate(zip(models, signals, strict=True)):
    config = model.info["config"]
    used = model.settings(bool(named), **(later if number else settings))
    sampling = dataclasses.asdict(used)
    if number or not given:
      sampling["method"] = "replacement"  # There is nothing to guide towards.
    estimate.check_sampling(
      {**config, "sampling": {**config["sampling"], **sampling}},
      "enlarge" if number else "sample",
      jax.local_devices(),
      min(_BATCH_SIZE.value, processes.largest_share(num_videos)),
    )


def _signals(model, labels, captions, optional):
  """Converts label and captions to the arguments of `Model.sample`.

  A later model of a cascade leaves out those that it was not trained with.
  """
  from vdm_jax import run_data

  found = {}
  if labels is not None and (model.system.cond.num_labels or not optional):
    found["label"] = labels
  if captions is None and _NEGATIVE.value is None:
    return found
  encoder = run_data.text_encoder(model.info)
  if encoder is None and not optional:
    raise UserError("--caption: this model was trained without text")
  if encoder is not None and captions is not None:
    found["tokens"] = _encoded(encoder, captions)
  if encoder is not None and _NEGATIVE.value is not None:
    found["negative_tokens"] = encoder(_NEGATIVE.value)
  return found


def _encoded(encoder, captions):
  """Encodes captions, each once, to (tokens [N, L, D], mask [N, L])."""
  import numpy as np

  found = {caption: encoder(caption) for caption in set(captions)}
  return tuple(map(np.stack, zip(*(found[c] for c in captions), strict=True)))


def _captions():
  """Returns the captions that were given; None for none."""
  if _CAPTION.value is not None and _CAPTIONS.value is not None:
    raise UserError("--caption and --captions: expected one of them")
  if _CAPTION.value is not None:
    return [_CAPTION.value]
  if _CAPTIONS.value is None:
    return None
  try:
    with open(_CAPTIONS.value, encoding="utf-8-sig") as file:
      lines = [line.strip() for line in file]
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f"--captions={_CAPTIONS.value}: expected a text file in UTF-8, found: {error}"
    ) from error
  lines = [line for line in lines if line]
  if not lines:
    raise UserError(f"--captions={_CAPTIONS.value}: expected a caption a line")
  return lines


def _of_videos(captions, num_videos):
  """Returns a caption for each video, using them in turn."""
  if captions is None:
    return None
  if num_videos % len(captions):
    raise UserError(
      f"--num_videos={num_videos}: expected a multiple of the {len(captions)} captions"
    )
  return captions * (num_videos // len(captions))


def _places() -> list[int]:
  """Returns the numbers of the given frames."""
  if _NUM_OBS.value is not None and _GIVEN_FRAMES.value:
    raise UserError("--num_obs and --given_frames: expected one of them")
  if _NUM_OBS.value is not None:
    return list(range(_NUM_OBS.value))
  if _GIVEN_FRAMES.value:
    return common.frame_range(_GIVEN_FRAMES.value, "given_frames")
  if _GIVEN.value:
    return list(range(4))
  if _SPLIT.value:
    raise UserError(f"--split={_SPLIT.value}: needs --num_obs or --given_frames")
  return []


def _given(model, places, num_videos):
  """Reads the given frames, [T0, H, W, C] or [N, T0, H, W, C], and their origin."""
  from vdm_jax import run_data
  from vdm_jax.data import video
  from vdm_jax.pixels import to_float

  if not places:
    if origin := _GIVEN.value or _SPLIT.value:
      raise UserError(f"--num_obs, --given_frames: none of {origin}'s frames are given")
    return None, None
  if _GIVEN.value:
    if _SPLIT.value:
      raise UserError("--given and --split: expected one of them")
    height, width, channels = model.system.frame_shape
    clip = video.read_video(_GIVEN.value, size=(height, width), channels=channels)
    # Like those of a split, neighbours of a sampled video are a stride apart.
    index = [place * model.system.stride for place in places]
    if not 0 <= min(index) <= max(index) < len(clip):
      raise UserError(
        f"given frames {min(index)} to {max(index)} (the model's stride is "
        f"{model.system.stride}): {_GIVEN.value} has {len(clip)} frames"
      )
    print(f"given: frames {', '.join(map(str, index))} of {_GIVEN.value}")
    return to_float(clip[index]), _GIVEN.value
  split = _SPLIT.value or "test"
  clips = run_data.given_clips(
    model.info["config"], model.system, split, num_videos, places
  )
  data = model.info["config"]["data"]["name"]
  return to_float(clips), {
    "data": data, "split": split, "videos": list(range(num_videos)),
  }  # fmt: skip


def _plan_options() -> dict:
  options = {
    name: flag.value for name, flag in _OPTIONS.items() if flag.value is not None
  }
  return options | key_values.parse(_PLAN_OPTIONS.value, "plan_option")


def _labels(num_videos: int) -> list[int] | None:
  if _LABEL.value is None:
    return None
  try:
    labels = [int(text) for text in _LABEL.value]
  except ValueError:
    raise UserError(f"--label={','.join(_LABEL.value)}: expected numbers") from None
  if len(labels) not in (1, num_videos):
    raise UserError(f"--label: expected 1 or {num_videos}, found {len(labels)}")
  return labels
