"""Times a training step of RVD level by level against frame by frame.

    python -m benchmarks.rvd_scan
    python -m benchmarks.rvd_scan --size=bair --turns=5

Both are loss and gradients of the same networks on the same batch and noise, and give
the same loss (printed). `levels` is what the library trains with: a level's blocks take
all frames at once, its GRU scans over them, the denoiser takes all scored frames as one
batch. `frames` is the recursion as it is written down, and as the authors' code runs: a
scan over frames, each through both recurrent networks and then the denoiser, with the
state handed on. They take turns; the number to read is the ratio of their times. `cpu`
is processor time, which other jobs disturb less.
"""

import argparse
import functools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from vdm_jax import frames as frames_lib
from vdm_jax import tasks
from vdm_jax.diffusion.schedule import DiscreteSchedule
from vdm_jax.models import rvd
from vdm_jax.systems import rvd as rvd_system
from vdm_jax.systems.parts import Noise, Objective

# Batch, frames and height; the networks.
SIZES = {
  "nano": (1, 4, 8, rvd.RvdSettings(8, (1, 1), (1, 1), out_channels=1)),
  # The networks of configs/rvd_digits.py.
  "digits": (8, 10, 16, rvd.RvdSettings(16, (1, 2, 4), (1, 2, 4), out_channels=1)),
  # Those of configs/rvd_bair.py; 2 clips a device are the authors' batch.
  "bair": (2, 8, 64, rvd.RvdSettings(48)),
}


def build(size: str):
  """Builds a system and a batch of video, frames and noise."""
  batch, length, height, settings = SIZES[size]
  shape = (height, height, settings.out_channels)
  system = rvd_system.RvdSystem(
    network=rvd.RvdNetwork(settings),
    schedule=DiscreteSchedule.cosine(1600, rescale_time=False),
    objective=Objective("eps", "eps", norm="l1"),
    task=tasks.NextFrame(length),
    frame_shape=shape,
  )
  rng = np.random.default_rng(0)
  video, eps = rng.standard_normal((2, batch, length, *shape)).astype(np.float32)
  latent = np.broadcast_to(
    np.arange(length) >= system.task.num_context, video.shape[:2]
  )
  frames = frames_lib.clip(batch, length)
  frames = frames.replace(observed=np.ones_like(latent), latent=latent)
  noise = system.noise(jnp.linspace(0.2, 0.8, batch), jnp.asarray(eps))
  return system, (jnp.tanh(video), frames, noise)


def levels(system, params, video, frames, noise: Noise):
  """Computes the library's loss."""
  return system.score(params, video, frames, {}, noise).loss


def one_by_one(system, params, video, frames, noise: Noise):
  """Computes the same loss a frame at a time."""
  first, network = system.task.num_context, system.network

  def read(state, last, following):
    window = jnp.stack([last, following], axis=1)
    encoded = network.apply(
      {"params": params}, window, frames, {}, state, method="encode"
    )
    return encoded, window

  def score(state, inputs):
    last, following, eps = inputs
    encoded, window = read(state, last, following)
    x, eps = encoded.residual(window)[:, 1:], eps[:, None]
    z = rvd_system.process.forward(x, eps, noise.level)
    output = network.apply(
      {"params": params}, z, noise.level, frames, encoded.context, method="denoise"
    )
    return encoded.state, jnp.mean(jnp.abs(output - eps))

  video, eps = video.swapaxes(0, 1), noise.eps.swapaxes(0, 1)
  state = None
  for i in range(first - 1):
    state = read(state, video[i], video[i + 1])[0].state
  if state is None:
    state = rvd.zero_state(network.settings, video[:1].swapaxes(0, 1))
  inputs = (video[first - 1 : -1], video[first:], eps[first:])
  return jax.lax.scan(score, state, inputs)[1].mean()


def measure(call) -> tuple[float, float]:
  """Measures the seconds of one call: wall, processor."""
  processor, wall = time.process_time(), time.perf_counter()
  jax.block_until_ready(call())
  return time.perf_counter() - wall, time.process_time() - processor


def compare(size: str, turns: int) -> dict:
  """Measures a size: {side: {"loss", "wall": [...], "cpu": [...]}}."""
  system, batch = build(size)
  params = jax.jit(system.init)(jax.random.key(0))
  sides = {"levels": levels, "frames": one_by_one}
  calls, found = {}, {}
  for name, loss in sides.items():
    step = jax.jit(jax.value_and_grad(functools.partial(loss, system)))
    calls[name] = functools.partial(step, params, *batch)
    value, _ = calls[name]()  # Compiles.
    found[name] = {"loss": float(value), "wall": [], "cpu": []}
  for _ in range(turns):
    for name, call in calls.items():
      time.sleep(0.05)  # Threads of the other side come to rest.
      wall, cpu = measure(call)
      found[name]["wall"].append(wall)
      found[name]["cpu"].append(cpu)
  return found


def main(argv=None):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--size", choices=SIZES, default="digits")
  parser.add_argument("--turns", type=int, default=7)
  parser.add_argument("--platform", default="cpu", help="'cpu', 'cuda', 'tpu'")
  args = parser.parse_args(argv)
  jax.config.update("jax_platforms", args.platform)
  found = compare(args.size, args.turns)
  print(f"{args.size} on {jax.devices()[0].device_kind}, {args.turns} turns\n")
  print("| side | loss | ms | cpu ms |\n|---|---:|---:|---:|")
  for name, side in found.items():
    wall, cpu = (1e3 * statistics.median(side[key]) for key in ("wall", "cpu"))
    print(f"| {name} | {side['loss']:.6f} | {wall:.1f} | {cpu:.1f} |")
  for key in ("wall", "cpu"):
    pairs = zip(found["frames"][key], found["levels"][key], strict=True)
    ratios = sorted(a / b for a, b in pairs)
    print(
      f"frames / levels, {key}: {statistics.median(ratios):.2f} "
      f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
  main()
