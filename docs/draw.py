"""Draws the pictures of how_it_works.md by the library itself.

    python docs/draw.py [FOLDER]

writes them into docs/pictures/, or into FOLDER.
"""

import os
import pathlib
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # Pictures want no accelerator.

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import vdm_jax as vdm
from vdm_jax.diffusion import noise, process, schedule
from vdm_jax.pixels import to_float, to_uint8
from vdm_jax.plans import outline

FOLDER = pathlib.Path(__file__).parent / "pictures"
DATA = "moving_digits/32px_1digit_8frames_12digitpx_64videos"
OBSERVED, LATENT, PADDING, BOTH = "#1f5fd0", "#f08c2e", "#ffffff", "#7a4fb5"
EDGE = "#9aa1ab"

mpl.rcParams.update({"font.size": 9})

TASKS = {
  "joint_images (VDM)": dict(name="joint_images", num_frames=8, num_images=4),
  "random_subsets (FDM)": dict(name="random_subsets", max_frames=12, clip_length=60),
  "random_mask (RaMViD)": dict(
    name="random_mask", num_frames=12, max_observed=4, uncondition_rate=0.25
  ),
  "past_future (MCVD)": dict(
    name="past_future", num_past=3, num_current=6, num_future=3,
    drop_past=0.5, drop_future=0.5,
  ),
  "next_frame (RVD)": dict(name="next_frame", num_frames=12, num_context=4),
}  # fmt: skip
SCHEDULES = {
  "cosine (VDM)": schedule.CosineSchedule(),
  "cosine, logsnr_shift = -3": schedule.CosineSchedule(shift=-3.0),
  "straight (rectified flow)": schedule.StraightSchedule(),
  "linear_steps (FDM, RaMViD)": schedule.DiscreteSchedule.linear(1000),
  "cosine_steps": schedule.DiscreteSchedule.cosine(1000),
}
PLANS = ("autoreg", "long-range", "hierarchy-2")


def tasks(path: pathlib.Path) -> None:
  """Draws four examples of each task: a row is a window, a square one of its frames."""
  figure = Figure(figsize=(7.4, 7.6), layout="constrained")
  for axes, (title, fields) in zip(
    figure.subplots(len(TASKS), 1), TASKS.items(), strict=True
  ):
    task = vdm.tasks.build(fields)
    rng = np.random.default_rng(12)
    for row in range(4):
      drawn = task.sample(rng, [60] * task.num_sources)
      for slot in range(task.num_frames):
        observed, latent = bool(drawn.observed[slot]), bool(drawn.latent[slot])
        colour = {(1, 0): OBSERVED, (0, 1): LATENT, (0, 0): PADDING, (1, 1): BOTH}
        left = slot + 0.4 * int(drawn.source[slot] > 0)  # Of another video.
        axes.add_patch(Rectangle((left, row), 0.94, 0.86, edgecolor=EDGE,
                                 facecolor=colour[observed, latent]))  # fmt: skip
        axes.text(left + 0.47, row + 0.45, str(drawn.index[slot]), ha="center",
                  va="center", fontsize=7.5,
                  color="white" if observed else "black")  # fmt: skip
    axes.set(xlim=(-0.1, 13.0), ylim=(4, -0.1))
    axes.set_title(title, loc="left", fontsize=9.5)
    axes.axis("off")
  named = {"observed": OBSERVED, "latent": LATENT, "observed and latent": BOTH,
           "padding": PADDING}  # fmt: skip
  handles = [Patch(facecolor=c, edgecolor=EDGE, label=n) for n, c in named.items()]
  figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
  figure.savefig(path, dpi=110)


def schedules(path: pathlib.Path) -> None:
  """Draws the log SNR of each schedule over time."""
  figure = Figure(figsize=(7.4, 3.4), layout="constrained")
  axes = figure.subplots()
  for name, of in SCHEDULES.items():
    grid = of.grid(200)
    logsnr = np.asarray(grid.logsnr)[:-1]  # The last is data, without noise.
    # Two of them lie on each other.
    style = "--" if name == "cosine_steps" else "-"
    axes.plot(np.linspace(1, 0, len(grid.logsnr))[:-1], logsnr, style, label=name)
  axes.set(xlabel="time (0: data, 1: noise)", ylabel="log SNR", ylim=(-21, 21))
  axes.grid(color="#e8eaee")
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(frameon=False)
  figure.savefig(path, dpi=110)


def plans(path: pathlib.Path) -> None:
  """Draws three plans for the same video: stages downwards, frames across."""
  figure = Figure(figsize=(7.4, 4.4), layout="constrained")
  colours = mpl.colors.ListedColormap([c for _, c in outline.COLOURS.values()])
  for axes, name in zip(figure.subplots(1, len(PLANS)), PLANS, strict=True):
    plan = vdm.plans.build(
      name, length=48, given=tuple(range(8)), window=12, max_frames=12, step_size=4
    )
    rows = outline.table(plan)
    axes.imshow(
      rows, cmap=colours, vmin=-0.5, vmax=3.5, aspect="auto", interpolation="nearest"
    )
    for stage in range(1, len(rows)):
      axes.axhline(stage - 0.5, color="white", linewidth=0.6)
    axes.set(xlabel="frame", title=name)
  figure.axes[0].set_ylabel("stage")
  handles = [
    Patch(facecolor=c, edgecolor=EDGE, label=n) for n, c in outline.COLOURS.values()
  ]
  figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
  figure.savefig(path, dpi=110)


def levels(path: pathlib.Path) -> None:
  """Draws one frame at rising levels of noise."""
  vdm.data.build(DATA)
  clip = vdm.data.load(DATA, split="train").read(0, np.array([0]))
  logsnr = (20, 6, 3, 0, -3, -6, -20)
  figure = Figure(figsize=(7.4, 1.5), layout="constrained")
  x = to_float(jnp.asarray(clip))[None]
  eps = noise.normal(jax.random.split(jax.random.key(0), 1), x.shape)
  for axes, value in zip(figure.subplots(1, len(logsnr)), logsnr, strict=True):
    level = schedule.Level(jnp.full(1, float(value)), jnp.zeros(1))
    z = process.forward(x, eps, level)
    axes.imshow(to_uint8(z)[0, 0, ..., 0], cmap="gray", vmin=0, vmax=255)
    axes.set_title(f"{value:+d}" if value else "0", fontsize=9)
    axes.axis("off")
  figure.savefig(path, dpi=110)


PICTURES = {
  "tasks.png": tasks,
  "schedules.png": schedules,
  "plans.png": plans,
  "levels.png": levels,
}


def main(folder: pathlib.Path) -> None:
  """Draws all of them."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, draw in PICTURES.items():
    draw(folder / name)
    print(folder / name)


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
