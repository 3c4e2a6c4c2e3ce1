"""Protocol `calls`: the quality of forecasts against their cost.

    OUT/
      SAMPLER_STEPS/   output of protocol `forecast` with this sampler and these steps
      calls.png        CRPS and PSNR against network calls per window
      table.txt        the same numbers
      results.json     everything

If a job is stopped, the same command resumes it.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from etils import epath

from vdm_jax import key_values, sampling, text_table
from vdm_jax.errors import UserError
from vdm_jax.evaluation import figures, protocol
from vdm_jax.evaluation.forecast_protocol import Forecast
from vdm_jax.storage.checkpoint import differences

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Calls(Forecast):
  """Runs protocol `forecast` for each sampler and number of steps."""

  name: ClassVar[str] = "calls"

  samplers: tuple[str, ...] = protocol.setting(
    ("ddim", "dpmpp_2m", "ancestral"), "samplers to compare"
  )
  steps: tuple[str, ...] = protocol.setting(
    ("5", "10", "25", "50"), "numbers of noise levels to compare"
  )

  def run(self, out: epath.Path) -> protocol.Outcome:
    """Measures forecasts at every sampler and number of steps."""
    if not self.workdir or self.samples:
      raise UserError("calls: expected `workdir=RUN`, and no `samples`")
    if not self.samplers or not self.steps:
      raise UserError("calls: expected `samplers` and `steps`, one or more of each")
    # All of it is checked before hours of sampling.
    grid = self._grid()
    found = [
      (sampler, calls, self._forecast(out / f"{sampler}_{steps}", sampler, steps))
      for sampler, steps, calls in grid
    ]
    checkpoints = {result["checkpoint_step"] for _, _, result in found}
    if len(checkpoints) > 1:
      raise UserError(
        f"`out={out}`: holds forecasts of checkpoints {sorted(checkpoints)}; say which "
        "with `step`, or choose another folder"
      )
    keys = [
      key
      for key in (
        "crps_fair" if self.crps != "plugin" else "crps",
        "psnr_pooled",
        "ssim",
      )
      if key in found[0][2]["titles"]
    ]
    titles = found[0][2]["titles"]
    rows = [["sampler", "network calls per window", *(titles[key] for key in keys)]]
    curves: dict[str, list[dict[str, Any]]] = {}
    for sampler, calls, result in found:
      means = _means(result["sets"][MODEL], keys)
      curves.setdefault(sampler, []).append({"calls": calls, **means})
      rows.append([sampler, str(calls), *_cells(means)])
    others = {
      name: _means(means, keys)
      for name, means in found[0][2]["sets"].items()
      if name != MODEL
    }
    for name, means in others.items():
      rows.append([name, "0", *_cells(means)])
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
      f"{head}\n\n{text_table.table(rows)}",
    )

  def _grid(self) -> list[tuple[str, int, int]]:
    """Lists (sampler, steps, network calls per window) of every point."""
    model = sampling.load(self.workdir, ema=self.ema or None, step=self.step or None)
    fixed = key_values.parse(self.sampling, "sampling")
    points = []
    for sampler in self.samplers:
      for text in self.steps:
        if not text.isdecimal() or not int(text):
          raise UserError(f"`steps={text}`: expected a number of noise levels, >= 1")
        chosen = {"sampler": sampler, "steps": int(text), "respacing": ""}
        settings = model.settings(False, **{**fixed, **chosen})
        taken = settings.make_sampler().plan(settings.grid(model.system.schedule))
        points.append((sampler, int(text), len(taken.last)))
    return points

  def _forecast(self, out: epath.Path, sampler: str, steps: int) -> dict[str, Any]:
    """Runs protocol `forecast` or, if its result exists, reads it."""
    # A respacing of the config would override the steps.
    chosen = (f"sampler={sampler}", f"steps={steps}", "respacing=")
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(Forecast)}
    one = Forecast(**{**fields, "sampling": (*self.sampling, *chosen)})
    path = out / "results.json"
    if not path.exists():
      protocol.evaluate(one, out)
    result = json.loads(path.read_text())
    asked = json.loads(protocol.as_json(protocol.describe(one)))
    other = differences({key: result.get(key) for key in asked}, asked)
    if other:
      raise UserError(
        f"{path}: is of other settings ({'; '.join(other)}); choose another `out`"
      )
    return result


def _means(means: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
  """Collects means over lead times and their errors by measure; null becomes NaN."""

  def number(value):
    return math.nan if value is None else value

  return {
    key: {name: number(means[key][name]) for name in ("mean", "error")} for key in keys
  }


def _cells(means: Mapping[str, Mapping[str, float]]) -> list[str]:
  return [text_table.cell(value["mean"], value["error"]) for value in means.values()]
