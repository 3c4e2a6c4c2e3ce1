"""Measures the cost of guidance: a guided step of the ancestral sampler in plain steps.

    python -m benchmarks.guidance
    python -m benchmarks.guidance --config=vdm_ucf101 --batch=1

Guidance without a classifier runs the network on twice the batch; guidance towards
given frames or a low-resolution video takes one backward pass a step, whatever there
is of it.
"""

import argparse
import json
import time

import jax
import numpy as np

from vdm_jax import configs, sampling, systems, text_table

STEPS = 8


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--config", default="vdm_digits")
  parser.add_argument("--batch", type=int, default=16)
  parser.add_argument("--dtype", default="float32")
  parser.add_argument("--turns", type=int, default=5)
  args = parser.parse_args()
  config = configs.get(args.config)
  config = json.loads(config.to_json_best_effort())
  config["dtype"] = args.dtype
  config["sampling"].update(steps=STEPS, guidance=0.0)
  system = systems.build(config)
  params = jax.jit(system.init)(jax.random.key(0))
  model = sampling.Model(system, params, {"config": config, "step": 0})
  height, width, channels = system.frame_shape
  given = np.zeros((2, height, width, channels), np.float32)
  low = np.zeros((system.window, height // 2, width // 2, channels), np.float32)
  towards = dict(given=given, reconstruction_weight=2.0)
  rows = {
    "plain": {},
    "given frames by replacement": dict(given=given, method="replacement"),
    "given frames by reconstruction": towards,
    "a low-resolution video": dict(low_res=low),
    "both": {**towards, "low_res": low},
  }
  if system.cond.num_labels:
    rows["without a classifier"] = dict(label=1, guidance=1.0)
    rows["both, without a classifier"] = {**rows["both"], "label": 1, "guidance": 1.0}
  times = {name: [] for name in rows}
  for turn in range(args.turns + 1):  # The first one compiles.
    for name, options in rows.items():
      start = time.perf_counter()
      model.sample(args.batch, batch_size=args.batch, **options)
      if turn:
        times[name].append((time.perf_counter() - start) / STEPS)
  plain = np.median(times["plain"])
  lines = [["guidance", "ms a step", "plain steps"]]
  for name, seconds in times.items():
    each = float(np.median(seconds))
    lines.append([name, f"{1000 * each:.1f}", f"{each / plain:.2f}"])
  print(f"{jax.devices()[0].device_kind}, {args.config.stem}, batch {args.batch}")
  print(text_table.table(lines))


if __name__ == "__main__":
  main()
