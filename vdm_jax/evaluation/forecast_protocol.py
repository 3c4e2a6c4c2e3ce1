"""Protocol `forecast`: an ensemble of continuations of every clip of a split.

    OUT/
      clips/         scores of each finished clip, from which a stopped job resumes
      clip.png       the first clip: truth, members, their mean, the baselines
      by_lead.png    CRPS, PSNR and SSIM by lead time
      table.txt      means over all lead times, then by lead time
      results.json   everything

Only the members of the current clip are in memory.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from etils import epath

from vdm_jax import processes, text_table
from vdm_jax.data import sheet
from vdm_jax.errors import UserError
from vdm_jax.evaluation import ensembles, figures, forecast_scores, protocol
from vdm_jax.metrics import perceptual
from vdm_jax.metrics.networks.lpips import NETS

ESTIMATORS = ("both", "plugin", "fair")
_SHOWN = 4  # Number of members in the picture.


@dataclasses.dataclass(frozen=True)
class Forecast(ensembles.EnsembleProtocol):
  """Measures CRPS, PSNR and SSIM by lead time, of a run or of folders of samples."""

  name: ClassVar[str] = "forecast"
  several: ClassVar[bool] = True

  crps: str = protocol.setting("both", "estimator of the CRPS: plugin, fair or both")
  lpips: str = protocol.setting(
    "", "network of LPIPS: alexnet or vgg16; default no LPIPS"
  )

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Scores every clip, and writes table and figures."""
    self._check()
    job = ensembles.of(self)
    if self.crps != "plugin" and job.members < 2:
      raise UserError(
        f"`members={job.members}`: the fair CRPS needs 2 members or more; take more, "
        "or `crps=plugin`"
      )
    lpips = perceptual.Perceptual(self.lpips) if self.lpips else None
    done = list(
      ensembles.scored(
        job,
        out,
        {**protocol.describe(self), **job.origin},
        lambda number: self._score(job, number, out, lpips),
        desc=self.name,
      )
    )
    sets = {
      name: forecast_scores.mean_by_lead(clip[name] for clip in done)
      for name in done[0]
    }
    keys = self._keys(sets[job.title])
    result = {
      **job.origin,
      "clips": len(done),
      "members": job.members,
      "context": job.context,
      "lead_times": len(done[0][job.title]["crps"]),
      "scale": "[0, 1], from 8-bit frames; frames that are met exactly have no finite "
      "PSNR and are left out of its means over frames",
      "errors": "standard errors over clips",
      "lpips": lpips.weights.describe() if lpips else None,
      "titles": {key: forecast_scores.TITLES[key] for key in keys},
      "sets": {name: {key: means[key] for key in keys} for name, means in sets.items()},
    }
    if processes.is_first():
      _plot(out / "by_lead.png", sets, keys)
    head = f"{job.members} members, {job.context} given frames, {len(done)} clips"
    return protocol.Outcome(result, _table(sets, keys, head))

  def _check(self) -> None:
    if self.crps not in ESTIMATORS:
      raise UserError(f"`crps={self.crps}`: expected {', '.join(ESTIMATORS)}")
    if self.lpips and self.lpips not in NETS:
      raise UserError(f"`lpips={self.lpips}`: expected {' or '.join(NETS)}")

  def _keys(self, means) -> list[str]:
    """Lists the measures to report, without unwanted estimators and all-NaN ones."""
    hidden = {"plugin": "crps_fair", "fair": "crps"}.get(self.crps)
    return [
      key
      for key in forecast_scores.TITLES
      if key != hidden and np.isfinite(means[key]["by_lead"]).any()
    ]

  def _score(self, job, number: int, out: epath.Path, lpips):
    """Scores the forecasts of a clip, and draws the first clip."""
    clip = job.clip(number)
    context, truth = clip.truth[: job.context], clip.truth[job.context :]
    scores = {
      job.title: forecast_scores.score(clip.members[:, job.context :], truth, lpips)
    }
    for name, made in forecast_scores.baselines(context, len(truth)).items():
      scores[name] = forecast_scores.score_point(made, truth, lpips)
    if number == 0 and processes.is_first():
      _picture(out / "clip.png", clip, job.context)
    return scores


Means = Mapping[str, Mapping[str, Mapping[str, Any]]]


def _table(sets: Means, keys: Sequence[str], head: str) -> str:
  """Tabulates means over all lead times by set, then CRPS and PSNR by lead time."""
  rows = [["mean over lead times", *sets]]
  for key in keys:
    found = [means[key] for means in sets.values()]
    row = [text_table.cell(mean["mean"], mean["error"]) for mean in found]
    rows.append([forecast_scores.TITLES[key], *row])
  parts = [f"{head}; ± one standard error over clips", text_table.table(rows)]
  for key in _shown(keys):
    rows = [[f"lead time: {forecast_scores.TITLES[key]}", *sets]]
    for t in range(len(next(iter(sets.values()))[key]["by_lead"])):
      row = [
        text_table.cell(means[key]["by_lead"][t], means[key]["error_by_lead"][t])
        for means in sets.values()
      ]
      rows.append([str(t + 1), *row])
    parts.append(text_table.table(rows))
  return "\n\n".join(parts)


def _plot(path: epath.Path, sets: Means, keys: Sequence[str]) -> None:
  panels = {
    forecast_scores.TITLES[key]: {
      name: (means[key]["by_lead"], means[key]["error_by_lead"])
      for name, means in sets.items()
    }
    for key in _shown(keys)
  }
  figures.by_lead(path, panels)


def _shown(keys: Sequence[str]) -> list[str]:
  """Selects one measure of each kind, with the fair CRPS if there is one."""
  crps = "crps_fair" if "crps_fair" in keys else "crps"
  return [key for key in (crps, "psnr_pooled", "ssim", "lpips") if key in keys]


def _picture(path: epath.Path, clip: ensembles.Clip, context: int) -> None:
  """Draws a clip, some of its members, their mean and the baselines, row by row."""
  rows = {"truth": clip.truth}
  for i, member in enumerate(clip.members[:_SHOWN]):
    rows[f"member {i + 1}"] = member
  mean = clip.members.mean(0)
  rows[f"mean of {len(clip.members)}"] = np.rint(mean).astype(np.uint8)
  given = clip.truth[:context]
  for name, forecasted in forecast_scores.baselines(
    given, len(clip.truth) - context
  ).items():
    rows[name] = np.concatenate([given, forecasted])
  seen = np.arange(len(clip.truth)) < context
  border = [sheet.OBSERVED if observed else None for observed in seen]
  sheet.write_contact_sheet(
    path, list(rows.values()), captions=list(rows), borders=[border] * len(rows)
  )
