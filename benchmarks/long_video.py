"""Times FDM's long videos, to see whether the cost of a frame depends on their length.

    python -m benchmarks.long_video --lengths 100 300 1000

Samples one video of each length from given frames of noise, with untrained weights:
what is sampled does not change what it costs. The programs are compiled before the
clock starts, by a run of the same length. Printed are windows,
compiled programs, seconds a window and a new frame (each the median of the windows),
and what the host holds for the video. The device holds one window, whatever the
length.
"""

import argparse
import time

import jax
import numpy as np

from vdm_jax import configs, plans, sampling, systems


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--lengths", type=int, nargs="+", default=[100, 300, 1000])
  parser.add_argument("--plans", nargs="+", default=["autoreg", "hierarchy-2"])
  parser.add_argument("--num_obs", type=int, default=36)
  parser.add_argument("--steps", type=int, default=2, help="noise levels")
  options = parser.parse_args()

  jax.config.update("jax_num_cpu_devices", 1)
  config = configs.get("fdm_maze_small").to_dict()
  config["sampling"]["steps"] = options.steps
  system = systems.build(config)
  params = jax.jit(system.init)(jax.random.key(0))
  model = Timed(system, params, {"config": config})
  print(
    "| plan | frames | windows | programs | s a window | ms a new frame | video, MB |"
  )
  print("| --- | --- | --- | --- | --- | --- | --- |")
  for plan in options.plans:
    for length in options.lengths:
      print(row(model, plan, length, options.num_obs), flush=True)


class Timed(sampling.Model):
  """A model that notes how long each window took."""

  seconds: list[tuple[int, float]]

  def window(self, settings, video, frames, *rest):
    start = time.perf_counter()
    found = jax.block_until_ready(super().window(settings, video, frames, *rest))
    new = int(np.sum(frames.latent[0]))
    self.seconds.append((new, time.perf_counter() - start))
    return found


def row(model: Timed, plan: str, length: int, num_obs: int) -> str:
  """Returns one line of the table."""
  shape = model.system.frame_shape
  given = np.random.default_rng(0).uniform(-1, 1, (num_obs, *shape))
  options = model.system.plan_options if plan == model.system.plan else {}
  stages = list(
    plans.stages(
      plans.build(
        plan,
        length=length,
        given=tuple(range(num_obs)),
        window=model.system.window,
        **options,
      )
    )
  )
  programs = len({np.shape(frames.index)[1] for frames in stages})

  def sample():
    model.seconds = []
    model.sample(1, length=length, given=given, plan=plan)

  sample()  # Compiles.
  sample()
  windows = [seconds for _, seconds in model.seconds]
  frames = [1e3 * seconds / new for new, seconds in model.seconds]
  size = 4 * length * np.prod(shape) / 1e6
  return (
    f"| {plan} | {length} | {len(windows)} | {programs} | {np.median(windows):.3f} | "
    f"{np.median(frames):.1f} | {size:.1f} |"
  )


if __name__ == "__main__":
  main()
