"""Scores of ensembles of continuations, by lead time, clip after clip.

Everything is measured on what a user gets: 8-bit frames, scaled to [0, 1]. Lead time k
is the k-th frame after the context.

    crps, crps_fair   averaged over every pixel and channel; see `crps`
    psnr_pooled       PSNR of the squared error averaged over members, frames and clips
    psnr, ssim        averaged over frames; frames that are predicted exactly have no
                      finite PSNR and are left out of its means
    lpips             averaged over frames, if there is a network for it
    ..._best          of the member whose mean over the clip is best, chosen for each
                      measure by itself
    ..._of_mean       of the members' mean, which is not a sample: it is blurred where
                      members disagree
"""

from collections.abc import Iterable

import numpy as np

from vdm_jax.evaluation import motion
from vdm_jax.metrics import image
from vdm_jax.metrics.crps import crps
from vdm_jax.metrics.perceptual import Perceptual

TITLES = {
  "crps": "CRPS, plug-in",
  "crps_fair": "CRPS, fair",
  "psnr_pooled": "PSNR, pooled (dB)",
  "psnr": "PSNR, mean over frames (dB)",
  "psnr_best": "PSNR, best member (dB)",
  "psnr_of_mean": "PSNR, of the ensemble mean (dB)",
  "ssim": "SSIM, mean of members",
  "ssim_best": "SSIM, best member",
  "ssim_of_mean": "SSIM, of the ensemble mean",
  "lpips": "LPIPS, mean of members",
  "lpips_best": "LPIPS, best member",
}

# Scores of a single clip; the pooled PSNR is computed from the mean of squared errors.
SCORES = tuple({"psnr_pooled": "mse"}.get(key, key) for key in TITLES)

Scores = dict[str, np.ndarray]


def score(
  members: np.ndarray, truth: np.ndarray, lpips: Perceptual | None = None
) -> Scores:
  """Scores the ensemble of one clip, one frame in memory at a time.

  Args:
    members: uint8 [S, T, H, W, C], only predicted frames.
    truth: uint8 [T, H, W, C], the true frames.
    lpips: measures LPIPS; None for none.

  Returns:
    For every key of `SCORES` float64 [T]; NaN for the fair CRPS of one member, for SSIM
    and LPIPS of frames that are too small, and for the PSNR of frames that are
    predicted exactly.
  """
  size, length = members.shape[:2]
  found = {key: np.full(length, np.nan) for key in SCORES}
  each = {key: np.full((size, length), np.nan) for key in ("psnr", "ssim")}
  measures = {"psnr": image.psnr}
  if min(truth.shape[1:3]) >= image.SSIM_MIN_SIZE:
    measures["ssim"] = image.ssim
  for t in range(length):
    x, y = members[:, t] / 255.0, truth[t] / 255.0
    found["crps"][t] = crps(x, y).mean()
    found["crps_fair"][t] = crps(x, y, fair=True).mean()
    found["mse"][t] = np.mean(np.square(x - y))
    for key, measure in measures.items():
      each[key][:, t] = measure(x, np.broadcast_to(y, x.shape))
      found[f"{key}_of_mean"][t] = measure(x.mean(0), y)
  if lpips is not None and min(truth.shape[1:3]) >= lpips.min_size:
    far = np.stack([lpips(member, truth) for member in members])
    found["lpips"] = far.mean(0)
    found["lpips_best"] = far[far.mean(1).argmin()]
  for key in measures:
    found[key] = _mean(_finite(each[key]))
    best = each[key][each[key].mean(1).argmax()]
    found[f"{key}_best"] = _finite(best)
    found[f"{key}_of_mean"] = _finite(found[f"{key}_of_mean"])
  return found


def score_point(
  forecast: np.ndarray, truth: np.ndarray, lpips: Perceptual | None = None
) -> Scores:
  """Scores a single deterministic forecast, uint8 [T, H, W, C].

  Its law is a point mass, so both forms of the CRPS are the absolute error.
  """
  return score(np.stack([forecast, forecast]), truth, lpips)


def mean_by_lead(clips: Iterable[Scores]) -> dict[str, dict[str, np.ndarray | float]]:
  """Computes means over clips, by lead time and over all, with their standard errors.

  Returns:
    For every key: `by_lead` and `error_by_lead` [T], `mean` and `error`.
  """
  clips = list(clips)
  result = {}
  for key in SCORES:
    values = np.stack([np.asarray(clip[key], np.float64) for clip in clips])
    by_clip = _mean(values.T)
    result[key] = {
      "by_lead": _mean(values),
      "error_by_lead": _error(values),
      # The mean of all values, as a clip with many exact frames has few of them.
      "mean": float(_mean(values.ravel())),
      "error": float(_error(by_clip)),
    }
  result["psnr_pooled"] = _in_decibel(result.pop("mse"))
  return {key: result[key] for key in TITLES}


def _in_decibel(errors: dict[str, np.ndarray | float]) -> dict[str, np.ndarray | float]:
  """Converts means of squared errors, and to first order their errors, to PSNR."""
  found = {}
  for value, error in (("by_lead", "error_by_lead"), ("mean", "error")):
    mean = np.asarray(errors[value])
    found[value] = image.pooled_psnr(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
      found[error] = 10 / np.log(10) * np.asarray(errors[error]) / mean
  return {key: part if np.ndim(part) else float(part) for key, part in found.items()}


def _finite(values: np.ndarray) -> np.ndarray:
  return np.where(np.isfinite(values), values, np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
  """Computes the mean over the first axis, without NaN; NaN if nothing is left."""
  known = np.isfinite(values)
  with np.errstate(invalid="ignore"):
    return np.where(known, values, 0.0).sum(0) / known.sum(0)


def _error(values: np.ndarray) -> np.ndarray:
  """Computes the standard error of `_mean`; NaN for fewer than two values."""
  count = np.isfinite(values).sum(0)
  square = _mean(np.square(values - _mean(values)))
  with np.errstate(invalid="ignore", divide="ignore"):
    return np.where(count > 1, np.sqrt(square / (count - 1)), np.nan)


def copy_last(context: np.ndarray, length: int) -> np.ndarray:
  """Repeats the last frame of a context uint8 [T0, H, W, C] `length` times."""
  return np.repeat(context[-1:], length, axis=0)


def constant_velocity(context: np.ndarray, length: int) -> np.ndarray:
  """Extrapolates the movement between the last two frames at constant velocity.

  The movement is the whole-pixel shift of the whole frame that best turns the last but
  one frame into the last. This is right for one object on an even ground and for a
  panning camera, but wrong for objects that move apart or bounce. What enters at the
  border has the median colour of the border.

  Args:
    context: uint8 [T0 >= 2, H, W, C].
    length: number of frames.
  """
  last = context[-1]
  limit = max(2, max(last.shape[:2]) // 8)
  dx, dy = motion.best_shift(context[None, -2:], limit).offset[0, 0]
  edges = [last[0], last[-1], last[:, 0], last[:, -1]]
  ground = np.median(np.concatenate(edges), axis=0).astype(np.uint8)
  return np.stack([_moved(last, k * dx, k * dy, ground) for k in range(1, length + 1)])


def baselines(context: np.ndarray, length: int) -> dict[str, np.ndarray]:
  """Makes forecasts, uint8 [length, H, W, C] by name, that need no learning."""
  made = {"last frame copied": copy_last(context, length)}
  if len(context) > 1:
    made["constant velocity"] = constant_velocity(context, length)
  return made


def _moved(frame, dx, dy, ground):
  """Shifts a frame by whole pixels, with `ground` where nothing was."""
  result = np.broadcast_to(ground, frame.shape).copy()
  height, width = frame.shape[:2]
  if abs(dx) < width and abs(dy) < height:
    y, x = _overlap(dy, height), _overlap(dx, width)
    result[y, x] = frame[_overlap(-dy, height), _overlap(-dx, width)]
  return result


def _overlap(shift: int, size: int) -> slice:
  """Returns the part of a row of `size` that overlaps the row moved by `shift`."""
  return slice(max(shift, 0), size + min(shift, 0))
