"""`vdm-jax sample --workdir=DIR --num_videos=N --out=DIR2`.

Frames to start from come from a clip (--given) or from the videos of a split of the
run's data set (--split), one for each sample. A job that is stopped goes on when the
same command is given again.
"""

import ast
import dataclasses
import time

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Run or export to sample from.")
_OUT = flags.DEFINE_string("out", None, "New folder for the samples.")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 8, "How many.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "At a time.", lower_bound=1)
_WHOLE = flags.DEFINE_bool(
  "whole", False, "A roll-out as one program: progress and stops between batches alone."
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the sampling noise.")
_LENGTH = flags.DEFINE_integer("length", None, "Frames; default the model's window.")
_LABEL = flags.DEFINE_list("label", None, "Class of all videos, or one for each.")
_CAPTION = flags.DEFINE_string("caption", None, "Text that describes all videos.")
_GIVEN = flags.DEFINE_string("given", None, "Clip (film, GIF, folder) to start from.")
_SPLIT = flags.DEFINE_string(
  "split", None, "Split of the run's data whose videos to start from; default test."
)
_GIVEN_FRAMES = flags.DEFINE_string(
  "given_frames", None, "Which frames of them are given, as 0:4 or 0,4,8."
)
_NUM_OBS = flags.DEFINE_integer(
  "num_obs", None, "The first so many frames are given: --given_frames=0:N.",
  lower_bound=0,
)  # fmt: skip
_PLAN = flags.DEFINE_string(
  "plan", None, "Sampling plan; default the config's. `vdm-jax plan list` has them."
)
_PLAN_OPTIONS = flags.DEFINE_multi_string(
  "plan_option", [], "KEY=VALUE of the plan, beside the flags below."
)
_OPTIONS = {
  "overlap": flags.DEFINE_integer(
    "overlap", None, "Frames two windows share (blocks)."
  ),
  "keep": flags.DEFINE_integer(
    "keep", None, "Frames a window adds at most, the rest are drafts (blocks)."
  ),
  "max_frames": flags.DEFINE_integer("max_frames", None, "Frames of a window."),
  "step_size": flags.DEFINE_integer("step_size", None, "New frames of a window."),
  "embedding": flags.DEFINE_string(
    "embedding", None, "What adaptive plans compare frames by; default pixels."
  ),
}
_EMA = flags.DEFINE_string("ema", None, "Which average; default the config's first.")
_STEP = flags.DEFINE_integer("step", None, "Which checkpoint; default the newest.")
_BEST = flags.DEFINE_bool("best", False, "The checkpoint of best validation loss.")
_FPS = flags.DEFINE_float("fps", 8.0, "Frames per second of the films.")

# Fields of sampling.Settings; a flag that is not given leaves the config's value.
_SETTINGS = {
  "sampler": flags.DEFINE_string(
    "sampler", None, "ancestral, ddim, dpmpp_2m or langevin."
  ),
  "steps": flags.DEFINE_integer("steps", None, "Noise levels."),
  "respacing": flags.DEFINE_string(
    "respacing", None, "Instead of steps, of a discrete schedule: ddim50 or 10,15,20."
  ),
  "gamma": flags.DEFINE_float("gamma", None, "Variance of ancestral steps, 0..1."),
  "eta": flags.DEFINE_float("eta", None, "Randomness of ddim, 0..1."),
  "langevin_delta": flags.DEFINE_float("langevin_delta", None, "Its step size."),
  "threshold": flags.DEFINE_string("threshold", None, "none, static or dynamic."),
  "percentile": flags.DEFINE_float("percentile", None, "Of dynamic, a fraction."),
  "guidance": flags.DEFINE_float(
    "guidance", None, "w in (1 + w) conditional - w unconditional; 0 is none."
  ),
  "reconstruction_weight": flags.DEFINE_float(
    "reconstruction_weight", None, "w_r towards given frames; 0: replacement alone."
  ),
  "resample": flags.DEFINE_integer(
    "resample", None, "Times each step is taken where frames are given (RePaint)."
  ),
  "restore_given": flags.DEFINE_bool(
    "restore_given", None, "Given frames come back as they were given."
  ),
}


def main(argv: list[str]) -> None:
  """Samples and writes; prints where the films are."""
  if len(argv) > 1:
    raise UserError(f"sample takes flags only, found {argv[1]!r}")
  if not _WORKDIR.value or not _OUT.value:
    raise UserError("sample: expected --workdir=DIR and --out=DIR2")

  from vdm_jax.sampling import save

  save.check_free(_OUT.value)
  common.start_jax()

  from vdm_jax import experiment, sampling

  model = sampling.load(
    _WORKDIR.value, rate=_EMA.value, step=_STEP.value, best=_BEST.value
  )
  places = _places()
  given, origin = _given(model, places)
  tokens = None
  if _CAPTION.value is not None:
    encoder = experiment.text_encoder(model.info["config"])
    if encoder is None:
      raise UserError("--caption: this model was trained without text")
    tokens = encoder(_CAPTION.value)

  settings = {name: flag.value for name, flag in _SETTINGS.items()}
  labels = _labels()
  start = time.perf_counter()
  videos = model.sample(
    _NUM_VIDEOS.value,
    seed=_SEED.value,
    length=_LENGTH.value,
    label=labels,
    tokens=tokens,
    given=given,
    given_frames=places,
    plan=_PLAN.value,
    plan_options=_plan_options(),
    batch_size=_BATCH_SIZE.value,
    whole=_WHOLE.value,
    progress=True,
    unfinished=f"{_OUT.value}/unfinished",
    **settings,
  )
  seconds = time.perf_counter() - start
  record = save.describe(
    model,
    seed=_SEED.value,
    settings=dataclasses.asdict(
      model.settings(labels is not None or tokens is not None, **settings)
    ),
    plan=_PLAN.value or model.system.plan,
    plan_options=_plan_options(),
    length=videos.shape[1],
    label=labels,
    caption=_CAPTION.value,
    given=origin,
    given_frames=places,
    seconds_per_video=seconds / len(videos),
  )
  captions = None
  if labels is not None:
    captions = [
      str(label) for label in labels * (1 if len(labels) > 1 else len(videos))
    ]
  save.save(
    _OUT.value,
    videos,
    record,
    captions=captions,
    observed=_observed(videos.shape[1], places),
    fps=_FPS.value,
  )
  print(
    f"{len(videos)} videos in {seconds:.1f} s ({seconds / len(videos):.2f} s each): "
    f"{_OUT.value}/sheet.gif, {_OUT.value}/videos.npz"
  )


def _places() -> list[int]:
  """Numbers of the given frames."""
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


def _given(model, places):
  """The given frames, [T0, H, W, C] or [N, T0, H, W, C], and where they are from."""
  from vdm_jax import experiment
  from vdm_jax.data import video
  from vdm_jax.pixels import to_float

  if not places:
    return None, None
  if _GIVEN.value:
    if _SPLIT.value:
      raise UserError("--given and --split: expected one of them")
    height, width, channels = model.system.frame_shape
    clip = video.read_video(_GIVEN.value, size=(height, width), channels=channels)
    if not 0 <= min(places) <= max(places) < len(clip):
      raise UserError(
        f"given frames {places[0]} to {max(places)}: {_GIVEN.value} has {len(clip)} "
        "frames"
      )
    return to_float(clip[places]), _GIVEN.value
  split = _SPLIT.value or "test"
  clips = experiment.given_clips(
    model.info["config"], model.system, split, _NUM_VIDEOS.value, places
  )
  data = model.info["config"]["data"]["name"]
  return to_float(clips), {
    "data": data, "split": split, "videos": list(range(_NUM_VIDEOS.value)),
  }  # fmt: skip


def _plan_options() -> dict:
  options = {
    name: flag.value for name, flag in _OPTIONS.items() if flag.value is not None
  }
  for text in _PLAN_OPTIONS.value:
    key, equals, value = text.partition("=")
    if not equals:
      raise UserError(f"--plan_option: expected KEY=VALUE, found {text!r}")
    try:
      options[key] = ast.literal_eval(value)
    except (ValueError, SyntaxError):
      options[key] = value
  return options


def _labels() -> list[int] | None:
  if _LABEL.value is None:
    return None
  try:
    labels = [int(text) for text in _LABEL.value]
  except ValueError:
    raise UserError(f"--label={','.join(_LABEL.value)}: expected numbers") from None
  if len(labels) not in (1, _NUM_VIDEOS.value):
    raise UserError(f"--label: expected 1 or {_NUM_VIDEOS.value}, found {len(labels)}")
  return labels


def _observed(length, places):
  import numpy as np

  return np.isin(np.arange(length), places)
