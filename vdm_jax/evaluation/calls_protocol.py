"""Protocol `calls`: what a forecast is worth against what it costs.

    OUT/
      SAMPLER_STEPS/   what protocol `forecast` says with this sampler and these steps
      calls.png        CRPS and PSNR against network calls a window
      table.txt        the same numbers
      results.json     everything

A job that was stopped goes on where it was.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from etils import epath

from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, protocol
from vdm_jax.evaluation.forecast_protocol import Forecast
from vdm_jax.sampling.settings import Settings

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Calls(Forecast):
  """Protocol `forecast` of a run, once for each sampler and number of steps."""

  name: ClassVar[str] = "calls"

  samplers: tuple[str, ...] = protocol.setting(
    ("ddim", "dpmpp_2m", "ancestral"), "samplers to compare"
  )
  steps: tuple[str, ...] = protocol.setting(
    ("5", "10", "25", "50"), "noise levels of each"
  )

  def run(self, out: epath.Path) -> protocol.Outcome:
    """See the module's text."""
    if not self.workdir:
      raise UserError("calls: expected --workdir=RUN")
    grid = [(s, self._number(n)) for s in self.samplers for n in self.steps]
    for sampler, steps in grid:
      Settings(sampler=sampler, steps=steps)  # Before hours of sampling.
    found = [
      (sampler, steps, self._forecast(out / f"{sampler}_{steps}", sampler, steps))
      for sampler, steps in grid
    ]
    checkpoints = {result["checkpoint_step"] for _, _, result in found}
    if len(checkpoints) > 1:
      raise UserError(
        f"--out={out}: holds forecasts of checkpoints {sorted(checkpoints)}; say which "
        "with --step, or choose another folder"
      )
    keys = [
      key
      for key in ("crps_fair" if self.crps != "plugin" else "crps", "psnr", "ssim")
      if key in found[0][2]["titles"]
    ]
    titles = found[0][2]["titles"]
    rows = [["sampler", "network calls a window", *(titles[key] for key in keys)]]
    curves: dict[str, list[dict[str, Any]]] = {}
    for sampler, _, result in found:
      means = {key: result["sets"][MODEL][key] for key in keys}
      calls = result["calls"]
      curves.setdefault(sampler, []).append({"calls": calls, **_means(means)})
      rows.append([sampler, str(calls), *_cells(means, keys)])
    others = {
      name: _means({key: means[key] for key in keys})
      for name, means in found[0][2]["sets"].items()
      if name != MODEL
    }
    for name, means in others.items():
      rows.append([name, "0", *_cells(means, keys)])
    figures.by_calls(
      out / "calls.png",
      {
        titles[key]: (
          {
            name: [(p["calls"], p[key]["mean"], p[key]["error"]) for p in points]
            for name, points in curves.items()
          },
          {name: means[key]["mean"] for name, means in others.items()},
        )
        for key in keys[:2]
      },
    )
    first = found[0][2]
    head = (
      f"{first['members']} members, {first['context']} given frames, "
      f"{first['clips']} clips; ± one standard error over clips"
    )
    return protocol.Outcome(
      {"samplers": curves, "baselines": others},
      f"{head}\n\n{protocol.table(rows)}",
    )

  def _number(self, text: str) -> int:
    if not text.isdecimal() or not int(text):
      raise UserError(f"--steps={text}: expected a number of noise levels, >= 1")
    return int(text)

  def _forecast(self, out: epath.Path, sampler: str, steps: int) -> dict[str, Any]:
    """The result of protocol `forecast`; read where it exists."""
    chosen = (f"sampler={sampler}", f"steps={steps}")
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(Forecast)}
    one = Forecast(**{**fields, "sampling": (*self.sampling, *chosen)})
    path = out / "results.json"
    if path.exists():
      result = json.loads(path.read_text())
      asked = json.loads(protocol.as_json(protocol.describe(one)))
      if {key: result.get(key) for key in asked} != asked:
        raise UserError(f"{path}: is of other settings; choose another --out")
    else:
      result = protocol.evaluate(one, out).result
    return {**result, "calls": steps * (2 if sampler == "langevin" else 1)}


def _means(means: Mapping[str, Any]) -> dict[str, Any]:
  """Mean over lead times and its error, by measure."""
  return {
    key: {"mean": value["mean"], "error": value["error"]}
    for key, value in means.items()
  }


def _cells(means: Mapping[str, Any], keys: list[str]) -> list[str]:
  return [protocol.cell(means[key]["mean"], means[key]["error"]) for key in keys]
