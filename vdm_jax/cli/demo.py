"""`vdm-jax demo --out=DIR [--seconds=N]`: train on moving digits, show the result."""

import time

from absl import flags

from vdm_jax.cli import common
from vdm_jax.errors import UserError

_CONFIG = common.define_config("vdm_digits")
_OUT = flags.DEFINE_string("out", "runs/demo", "Folder of the demo.")
_SECONDS = flags.DEFINE_float(
  "seconds", 600.0, "Total wall-clock seconds for training."
)
_NUM_CLIPS = flags.DEFINE_integer(
  "num_clips", 100, "Number of clips to sample, a multiple of 20."
)
_SAMPLE_SECONDS = flags.DEFINE_float(
  "sample_seconds", 90.0, "Seconds after which fewer clips suffice, at least 40."
)
_GUIDANCE = flags.DEFINE_float(
  "guidance", None, "Weight w of guidance; default the config's."
)


def main(argv: list[str]) -> None:
  """Trains, samples and measures; prints the table and the path of the report."""
  start = time.monotonic()
  if len(argv) > 1:
    raise UserError(f"demo takes flags only, found {argv[1]!r}")
  config = common.config_dict(_CONFIG)
  if _GUIDANCE.value is not None:
    config["sampling"]["guidance"] = _GUIDANCE.value

  from vdm_jax import demo
  from vdm_jax.demo import timed

  timed.check_seconds(_SECONDS.value)
  common.start_jax()
  with timed.stops_cleanly(_OUT.value):
    results = demo.run(
      config,
      _OUT.value,
      seconds=_SECONDS.value,
      num_clips=_NUM_CLIPS.value,
      sample_seconds=_SAMPLE_SECONDS.value,
    )
  accuracy = results["classifier"]["accuracy"]["test"]
  with open(f"{_OUT.value}/table.txt") as file:
    text = file.read()
  print(
    f"\n{text}\n"
    f"Read by a classifier that gets {accuracy:.1%} of unseen digits right; compared "
    f"with {results['reference']['clips']} real test clips; ± one standard error.\n"
    f"Model: {results['run']['steps']} steps in "
    f"{results['run']['train_seconds']:.0f} s. Demo: {time.monotonic() - start:.0f} s "
    f"in all.\nLook at {_OUT.value}/report.html"
  )
