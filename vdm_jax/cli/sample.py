"""`vdm-jax sample --workdir=DIR --num_videos=N --out=DIR2`."""

import time

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Run or export to sample from.")
_OUT = flags.DEFINE_string("out", None, "New folder for the samples.")
_NUM_VIDEOS = flags.DEFINE_integer("num_videos", 8, "How many.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "At a time.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.")
_LENGTH = flags.DEFINE_integer("length", None, "Frames; default the model's window.")
_LABEL = flags.DEFINE_list("label", None, "Class of all videos, or one for each.")
_CAPTION = flags.DEFINE_string("caption", None, "Text that describes all videos.")
_GIVEN = flags.DEFINE_string("given", None, "Clip (film, GIF, folder) to start from.")
_GIVEN_FRAMES = flags.DEFINE_string(
  "given_frames", None, "Which frames of the clip are given, as 0:4 or 0,4,8."
)
_PLAN = flags.DEFINE_string("plan", "blocks", "Sampling plan of longer videos.")
_OVERLAP = flags.DEFINE_integer("overlap", None, "Frames two windows share (blocks).")
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
  from vdm_jax.data import video
  from vdm_jax.pixels import to_float

  model = sampling.load(
    _WORKDIR.value, rate=_EMA.value, step=_STEP.value, best=_BEST.value
  )
  height, width, channels = model.system.frame_shape
  given, places = None, []
  if _GIVEN.value:
    clip = video.read_video(_GIVEN.value, size=(height, width), channels=channels)
    places = common.frame_range(_GIVEN_FRAMES.value or "0:4", "given_frames")
    if not places or max(places) >= len(clip):
      raise UserError(
        f"--given_frames={_GIVEN_FRAMES.value}: {_GIVEN.value} has {len(clip)} frames"
      )
    given = to_float(clip[places])
  elif _GIVEN_FRAMES.value:
    raise UserError("--given_frames: needs --given=CLIP to take them from")
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
    plan_options={"overlap": _OVERLAP.value},
    batch_size=_BATCH_SIZE.value,
    progress=True,
    **settings,
  )
  seconds = time.perf_counter() - start
  record = {
    "workdir": _WORKDIR.value,
    "checkpoint_step": model.info["step"],
    "ema": model.info["ema"],
    "seed": _SEED.value,
    "settings": {
      **model.info["config"]["sampling"],
      **{name: value for name, value in settings.items() if value is not None},
    },
    "plan": _PLAN.value,
    "length": videos.shape[1],
    "label": labels,
    "caption": _CAPTION.value,
    "given": _GIVEN.value,
    "given_frames": places,
    "seconds_per_video": seconds / len(videos),
    "config": model.info["config"],
  }
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
