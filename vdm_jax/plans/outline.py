"""The cost of a plan, and a picture of it."""

import collections
import dataclasses

import numpy as np

from vdm_jax import drawing
from vdm_jax.plans import plan as plan_lib

# Meaning and colour of the state of a frame at a stage.
NOTHING, EXISTS, OBSERVED, LATENT = range(4)
COLOURS = {
  NOTHING: ("not sampled yet", "#ffffff"),
  EXISTS: ("exists", "#c9ced6"),
  OBSERVED: ("observed", "#1f5fd0"),
  LATENT: ("sampled now", "#f08c2e"),
}
_MAX_ROW_TICKS = 30


@dataclasses.dataclass(frozen=True)
class Summary:
  """The cost of a plan, which is known before anything is sampled.

  Attributes:
    stages: (observed frames, latent frames) of each stage; if the plan depends on the
      video, the observed ones are those of a dry run.
    windows: number of stages by window length. A program is compiled for each length.
    sampled: frames that the plan samples.
    looks_at_video: whether observed frames depend on the video.
  """

  stages: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
  windows: dict[int, int]
  sampled: int
  looks_at_video: bool

  def num_network_calls(self, steps: int) -> int:
    """Counts the network calls for a batch of videos at `steps` sampling steps."""
    return len(self.stages) * steps


def summary(plan: plan_lib.Plan) -> Summary:
  """Summarises a plan by running through it without a video.

  Raises:
    UserError: the plan is invalid, see `plan.stages`.
  """
  pairs, windows = [], collections.Counter()
  for frames in plan_lib.stages(plan):
    index, observed, latent = (
      np.asarray(field)[0] for field in (frames.index, frames.observed, frames.latent)
    )
    pairs.append((tuple(index[observed].tolist()), tuple(index[latent].tolist())))
    windows[len(index)] += 1
  return Summary(
    stages=tuple(pairs),
    windows=dict(sorted(windows.items())),
    sampled=sum(len(latent) for _, latent in pairs),
    looks_at_video=getattr(plan, "looks_at_video", False),
  )


def table(plan: plan_lib.Plan) -> np.ndarray:
  """Tabulates the state of frames by stage: int [stages, length], see `COLOURS`."""
  rows, exists = [], set(plan.given)
  for observed, latent in summary(plan).stages:
    row = np.full(plan.length, NOTHING)
    row[list(exists)] = EXISTS
    row[list(observed)] = OBSERVED
    row[list(latent)] = LATENT
    rows.append(row)
    exists |= set(latent)
  return np.stack(rows) if rows else np.zeros((0, plan.length), int)


def draw(plan: plan_lib.Plan, path: str, title: str = "") -> None:
  """Draws the stages (rows) of a plan by frames (columns).

  Args:
    plan: plan of at least one stage.
    path: path of the picture, whose suffix sets the format: .png, .svg or .pdf.
    title: title above the picture.
  """
  from matplotlib.colors import ListedColormap
  from matplotlib.patches import Patch

  rows = table(plan)
  height = 1.6 + min(8.0, max(1.0, 0.14 * len(rows)))
  with drawing.figure(path, (9.0, height), dpi=150) as figure:
    axes = figure.add_subplot()
    colours = ListedColormap([colour for _, colour in COLOURS.values()])
    axes.pcolormesh(
      np.arange(plan.length + 1) - 0.5, np.arange(len(rows) + 1) - 0.5, rows,
      cmap=colours, vmin=-0.5, vmax=len(COLOURS) - 0.5,
      edgecolors="#e8eaee" if plan.length <= 120 else "none", linewidth=0.3,
      rasterized=rows.size > 20_000,
    )  # fmt: skip
    axes.invert_yaxis()
    if len(rows) <= _MAX_ROW_TICKS:
      axes.set_yticks(range(len(rows)))
      axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel="frame", ylabel="stage", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
      handles=[
        Patch(facecolor=colour, edgecolor="#9aa1ab", linewidth=0.5, label=label)
        for label, colour in COLOURS.values()
      ],
      loc="upper center", bbox_to_anchor=(0.5, -0.9 / height), ncols=4, frameon=False,
    )  # fmt: skip
