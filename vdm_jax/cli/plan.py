"""`vdm-jax plan`: list, show and optimize sampling plans.

vdm-jax plan list
vdm-jax plan show --plan=hierarchy-2 --length=300 --num_obs=36 --max_frames=20 \\
  --step_size=10 --out=hierarchy-2.png
vdm-jax plan optimize --workdir=RUN --plan=autoreg --length=300 --num_obs=36 \\
  --out=autoreg.json
"""

import inspect
import json
import pathlib
from typing import Any

from absl import flags

from vdm_jax import errors, key_values, seeds
from vdm_jax.cli import common
from vdm_jax.errors import UserError

_USAGE = "expected: vdm-jax plan list | show --plan=... | optimize --workdir=..."
_PLAN = flags.DEFINE_string(
  "plan", None, "Name of a plan, or package.module:function or file.py:function."
)
_LENGTH = flags.DEFINE_integer(
  "length", None, "Number of frames of the video.", lower_bound=1
)
_NUM_OBS = flags.DEFINE_integer(
  "num_obs", 0, "Number of given frames, at the start.", lower_bound=0
)
_WINDOW = flags.DEFINE_integer(
  "window",
  None,
  "show: frames that the model was trained with; default --max_frames or 20.",
)
_MAX_FRAMES = flags.DEFINE_integer(
  "max_frames", None, "Largest number of frames in a stage; default the window."
)
_STEP_SIZE = flags.DEFINE_integer(
  "step_size",
  None,
  "Number of frames that a stage samples; default half of max_frames.",
)
_EMBEDDING = flags.DEFINE_string(
  "embedding", None, "show: embedding by which an adaptive plan compares frames."
)
_OPTIONS = flags.DEFINE_multi_string(
  "plan_option", [], "Any other option of the plan as KEY=VALUE, such as overlap=4."
)
_STEPS = flags.DEFINE_list(
  "steps",
  ["50", "250", "1000"],
  "show: numbers of sampling steps for which to count network calls.",
)
_OUT = flags.DEFINE_string(
  "out",
  None,
  "show: picture to write, .png or .svg. optimize: schedule to write, .json.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "optimize: run or export of the model.")
_EMA = flags.DEFINE_string("ema", None, "optimize: rate of the average to use.")
_NEARBY = flags.DEFINE_bool(
  "nearby", False, "optimize: always observe the neighbours of the sampled frames."
)
_NUM_VIDEOS = flags.DEFINE_integer(
  "num_videos",
  100,
  "optimize: number of training videos that judge a choice.",
  lower_bound=1,
)
_NUM_LEVELS = flags.DEFINE_integer(
  "num_levels",
  10,
  "optimize: number of noise levels, spread over the videos.",
  lower_bound=1,
)
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", 10, "optimize: number of videos at a time.", lower_bound=1
)
_JSON = common.define_json()
_SEED = flags.DEFINE_integer(
  "seed",
  0,
  "optimize: seed of videos and noise.",
  lower_bound=0,
  upper_bound=seeds.COUNT - 1,
)


def main(argv: list[str]) -> None:
  """Runs `vdm-jax plan`, where argv[1] is the subcommand."""
  commands = {"list": _list, "show": _show, "optimize": _optimize}
  if len(argv) < 2:
    raise UserError(_USAGE)
  if argv[1] not in commands:
    raise errors.unknown("plan command", argv[1], commands)
  if len(argv) > 2:
    raise UserError(f"plan {argv[1]} takes flags only, found {argv[2]!r}")
  commands[argv[1]]()


def _list() -> None:
  from vdm_jax import plans

  if _JSON.value:
    known = {name: _options_of(make) for name, make in plans.known().items()}
    print(json.dumps(known, indent=2))
    return
  for name, make in plans.known().items():
    print(f"{name}\n  {_summary_line(make)}")
    print(f"  options: {', '.join(_options_of(make))}")


def _show() -> None:
  from vdm_jax import plans

  options = {
    "max_frames": _MAX_FRAMES.value,
    "step_size": _STEP_SIZE.value,
    "embedding": _EMBEDDING.value,
  }
  plan = plans.build(
    _required("plan"),
    length=_required("length"),
    given=tuple(range(_NUM_OBS.value)),
    window=_WINDOW.value or _MAX_FRAMES.value or 20,
    **options,
    **_more_options(),
  )
  outline = plans.summary(plan)
  out = _OUT.value and _picture_path(_OUT.value)
  if out:
    plans.draw(plan, str(out), title=f"{_PLAN.value}, {plan.length} frames")
  if _JSON.value:
    calls = {steps: outline.num_network_calls(steps) for steps in _step_counts()}
    stages = [
      {"observed": list(map(int, observed)), "latent": list(map(int, latent))}
      for observed, latent in outline.stages
    ]
    facts = {"stages": stages, "windows": outline.windows, "network_calls": calls}
    print(json.dumps({**facts, "looks_at_video": outline.looks_at_video}, indent=2))
    return
  for number, (observed, latent) in enumerate(outline.stages):
    print(f"stage {number}: samples {_ranges(latent)} given {_ranges(observed)}")
  if outline.looks_at_video:
    print("observed frames depend on the video; those above are from a dry run")
  print(f"{len(outline.stages)} stages sample {outline.sampled} frames")
  print(
    "window lengths (stages): "
    + ", ".join(f"{size} ({count} x)" for size, count in outline.windows.items())
    + f"; programs to compile: {len(outline.windows)}"
  )
  for steps in _step_counts():
    print(f"network calls at {steps} steps: {outline.num_network_calls(steps)}")
  if out:
    print(f"wrote {out}")


def _optimize() -> None:
  workdir, name, length = (_required(key) for key in ("workdir", "plan", "length"))
  out = _required("out")
  if _more_options():
    raise UserError("plan optimize: takes no --plan_option")
  common.start_jax()

  import tqdm

  from vdm_jax import run_data, sampling
  from vdm_jax.evaluation import noise_error
  from vdm_jax.plans import optimized

  model = sampling.load(workdir, ema=_EMA.value)
  metric = noise_error.NoiseError(
    model.system,
    model.params,
    run_data.open_split(model.info["config"], model.system, "train"),
    length=length,
    num_videos=_NUM_VIDEOS.value,
    num_levels=_NUM_LEVELS.value,
    batch_size=_BATCH_SIZE.value,
    seed=_SEED.value,
  )
  found = optimized.search(
    name,
    length=length,
    num_obs=_NUM_OBS.value,
    max_frames=_MAX_FRAMES.value or model.system.window,
    step_size=_STEP_SIZE.value,
    metric=metric,
    path=out,
    nearby=_NEARBY.value,
    settings={
      "workdir": workdir,
      "checkpoint_step": model.info["step"],
      "ema": model.info["ema"],
      "num_videos": _NUM_VIDEOS.value,
      "num_levels": _NUM_LEVELS.value,
      "seed": _SEED.value,
    },
    progress=lambda stages: tqdm.tqdm(stages, desc="optimize", unit="stage"),
  )
  print(
    f"{len(found.stages)} stages in {out}; use them with --plan=optimized "
    f"--plan_option=file={out}"
  )


def _required(name: str) -> Any:
  value = flags.FLAGS[name].value
  if value is None:
    raise UserError(f"plan: expected --{name}=...")
  return value


def _more_options() -> dict[str, Any]:
  return key_values.parse(_OPTIONS.value, "plan_option")


def _step_counts() -> list[int]:
  try:
    return [int(text) for text in _STEPS.value]
  except ValueError:
    raise UserError(f"--steps={','.join(_STEPS.value)}: expected numbers") from None


def _picture_path(text: str) -> pathlib.Path:
  path = pathlib.Path(text)
  if path.suffix not in (".png", ".svg", ".pdf"):
    raise UserError(f"--out={text}: expected a name that ends in .png, .svg or .pdf")
  path.parent.mkdir(parents=True, exist_ok=True)
  return path


def _summary_line(make) -> str:
  """Returns the first line of a plan's docstring (of what a partial wraps)."""
  return inspect.getdoc(getattr(make, "func", make)).splitlines()[0]


def _options_of(make) -> list[str]:
  parameters = inspect.signature(make).parameters
  return [name for name in parameters if name not in ("length", "given", "window")]


def _ranges(frames) -> str:
  """Formats frames in order, with runs of neighbours joined: 3-9, 20, 18-15."""
  if not frames:
    return "nothing"
  runs, step = [[frames[0], frames[0]]], 0
  for frame in frames[1:]:
    move = frame - runs[-1][1]
    if move in (1, -1) and step in (0, move):
      runs[-1][1], step = frame, move
    else:
      runs.append([frame, frame])
      step = 0
  return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in runs)
