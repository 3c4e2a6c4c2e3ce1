"""FVD of a run's samples while it trains.

The protocol is preset `tfhub` of `eval --protocol=fvd`, on few clips: numbers can be
compared within one run only. Clips have 16 frames, or the model's window if that is
longer. If the model needs given frames, they are those of the real videos, and count.
"""

from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from vdm_jax import run_data
from vdm_jax.errors import UserError
from vdm_jax.evaluation import distances, feature_store
from vdm_jax.evaluation.clip_sources import Source
from vdm_jax.metrics import features, weights
from vdm_jax.pixels import to_float
from vdm_jax.sampling import in_training

_FRAMES = 16


def fvd(
  config: Mapping[str, Any], system: Any, workdir: str
) -> Callable[[Any], dict[str, float]]:
  """Makes the hook that maps averaged parameters to `fvd`, `fvd_error` and `kvd`.

  Features of the real clips are computed once and kept in WORKDIR/fvd.

  Raises:
    UserError: the held-out videos are too few or too short, or weights are missing.
  """
  count = config["train"]["eval_fvd_clips"]
  length = max(system.window, _FRAMES)
  if count < 2:
    raise UserError(f"config.train.eval_fvd_clips: expected 2 or more, found {count}")
  if not system.can_sample:
    raise UserError("config.train.eval_fvd_every: this system samples no videos")
  split = run_data.held_out_split(config)
  real = run_data.given_clips(config, system, split, count, range(length))
  extractor = features.Extractor(weights.load("i3d"))
  source = run_data.open_split(config, system, split)
  held_out = Source(
    f"{source.full_name}:{split}",
    "data",
    count,
    0,
    0.0,
    source.fingerprint,
    read=real.__getitem__,
  )
  about = {"frames": length, "stride": system.stride}
  folder = epath.Path(workdir) / "fvd"
  of_real = feature_store.features(
    held_out, lambda number, clip: clip, extractor, folder, about, progress=False
  )
  context = system.min_given
  given = to_float(real[:, :context]) if context else None
  sample, _ = in_training.sampler(config, system, count, length, given)

  def measure(params: Any) -> dict[str, float]:
    found = distances.measure(of_real, extractor(sample(params)))
    return {
      "fvd": found["fvd"]["value"],
      "fvd_error": found["fvd"]["error"],
      "kvd": found["kvd"]["value"],
    }

  return measure
