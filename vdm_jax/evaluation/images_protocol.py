"""Protocol `images`: predicted frames by a paper's rule, mean and best of N members.

    OUT/
      clips/         measures of each finished clip, from which a stopped job resumes
      table.txt      mean of the members and best member, over clips
      results.json   everything

The best member of a clip is chosen for each measure by itself, as in MCVD. Given frames
do not count. Protocol `forecast` measures by lead time, with CRPS and baselines.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epath

from vdm_jax import text_table
from vdm_jax.errors import UserError, unknown
from vdm_jax.evaluation import ensembles, image_rules, protocol
from vdm_jax.metrics import image, perceptual
from vdm_jax.metrics.networks.lpips import NETS

TITLES = {"mse": "squared error", "psnr": "PSNR (dB)", "ssim": "SSIM", "lpips": "LPIPS"}
LEAST = ("mse", "lpips")  # Measures of which the smallest value is best.
_INTERVAL = 1.96


@dataclasses.dataclass(frozen=True)
class Images(ensembles.EnsembleProtocol):
  """Measures PSNR, SSIM and LPIPS of an ensemble by the rule of a paper's script."""

  name: ClassVar[str] = "images"
  several: ClassVar[bool] = True

  rule: str = protocol.setting(
    "plain", f"rule by which frames are measured: {', '.join(image_rules.RULES)}"
  )
  lpips: str = protocol.setting(
    "", "network of LPIPS: alexnet or vgg16; default no LPIPS"
  )

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Measures every clip and writes the table."""
    if self.rule not in image_rules.RULES:
      raise unknown("`rule`", self.rule, image_rules.RULES)
    if self.lpips and self.lpips not in NETS:
      raise UserError(f"`lpips={self.lpips}`: expected {' or '.join(NETS)}")
    job = ensembles.of(self)
    lpips = perceptual.Perceptual(self.lpips) if self.lpips else None
    rule = image_rules.RULES[self.rule]

    def score(number: int) -> dict[str, Any]:
      clip = job.clip(number)
      return measure(
        clip.members[:, job.context :], clip.truth[job.context :], rule, lpips
      )

    head = {**protocol.describe(self), **job.origin}
    clips = list(ensembles.scored(job, out, head, score, desc=self.name))
    found = {}
    for key in clips[0]:
      found[key] = _of_clips([clip[key] for clip in clips], least=key in LEAST)
    result = {
      **job.origin,
      "clips": len(clips),
      "members": job.members,
      "context": job.context,
      "rule": {"name": self.rule, "text": rule.text, "known": rule.known},
      "lpips": lpips.weights.describe() if lpips else None,
      "measures": found,
    }
    return protocol.Outcome(result, _table(result, self.lpips))


def _of_clips(values: Sequence[Sequence[float | None]], *, least: bool) -> dict:
  """Computes statistics of a measure over clips, each of all its members.

  A clip of which a member is exact in every frame has no finite PSNR and is left out.
  """
  array = np.array(values, np.float64)
  each = array[np.isfinite(array).all(1)].mean(1)
  return {
    "mean": each.mean() if len(each) else np.nan,
    "error": np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan,
    "best": image.best_of(array, least=least)._asdict(),
    "left_out": len(array) - len(each),
  }


def measure(
  members: np.ndarray,
  truth: np.ndarray,
  rule: image_rules.Rule,
  lpips: perceptual.Perceptual | None = None,
) -> dict[str, list[float]]:
  """Measures each member of one clip by a rule, averaged over frames.

  Args:
    members: uint8 [S, T, H, W, C], only predicted frames.
    truth: uint8 [T, H, W, C], the true frames.
    rule: a rule of `image_rules`.
    lpips: measures LPIPS; None for none.

  Returns:
    `mse`, `psnr`, and, if frames are large enough, `ssim` and `lpips`, [S] each.
    Frames that are predicted exactly have no finite PSNR and are left out of its mean,
    which is NaN if all are.

  Raises:
    UserError: frames are too small for the network of LPIPS.
  """
  difference = members.astype(np.float64) / 255 - truth / 255
  found = {"mse": np.square(difference).mean((1, 2, 3, 4))}
  psnr = rule.psnr(members, truth)
  known = np.isfinite(psnr)
  with np.errstate(invalid="ignore"):
    found["psnr"] = np.where(known, psnr, 0).sum(1) / known.sum(1)
  if min(truth.shape[1:3]) >= rule.least:
    found["ssim"] = rule.ssim(members, truth).mean(1)
  if lpips is not None:
    size = rule.lpips_size
    if not size and min(truth.shape[1:3]) < lpips.min_size:
      raise UserError(
        f"`lpips={lpips.net}`: expected frames of {lpips.min_size} pixels or more, "
        f"found {truth.shape[1]} x {truth.shape[2]}; `rule=mcvd` resizes them"
      )
    fit = (lambda x: image_rules.resized(x, size)) if size else (lambda x: x)
    real = fit(truth)
    found["lpips"] = np.array([lpips(fit(member), real).mean() for member in members])
  return {key: values.tolist() for key, values in found.items()}


def _table(result: dict[str, Any], lpips: str) -> str:
  rows = [["", "mean of members", f"best of {result['members']}"]]
  for key, of in result["measures"].items():
    title = TITLES[key] + f" ({lpips})" * (key == "lpips")
    best = text_table.cell(of["best"]["mean"], of["best"]["half_width"] / _INTERVAL)
    rows.append([title, text_table.cell(of["mean"], of["error"]), best])
  rule = result["rule"]
  missing = [
    f"{TITLES[key]}: without {of['left_out']} of {result['clips']} clips, of which a "
    "member is exact in every frame"
    for key, of in result["measures"].items()
    if of["left_out"]
  ]
  if "ssim" not in result["measures"]:
    least = image_rules.RULES[rule["name"]].least
    missing += [f"no SSIM: its window wants frames of {least} pixels or more"]
  return "\n".join([
    f"{result['clips']} clips, {result['members']} members, {result['context']} given "
    "frames; ± one standard error over clips",
    f"rule {rule['name']} ({rule['known']}): {rule['text']}",
    text_table.table(rows),
    *missing,
  ])  # fmt: skip
