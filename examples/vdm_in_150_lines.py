"""VDM from the library's primitives, nothing hidden: data, loss, loop, sampler, a GIF.

    python examples/vdm_in_150_lines.py --seconds=300 --out=digits.gif

trains a class-conditional model on bouncing digits and samples one of each. What
`vdm-jax train` adds: checkpoints, sharding, resuming, validation, logs.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import vdm_jax as vdm
from vdm_jax.diffusion import guidance, loss, noise, process, sampler, schedule
from vdm_jax.models.vdm import VdmSettings, VdmUNet
from vdm_jax.pixels import to_float, to_uint8

DATA = "moving_digits/16px_1digit_8frames_12digitpx"
FRAMES, HEIGHT, WIDTH, CHANNELS = 8, 16, 16, 1
BATCH, DIGITS = 8, 10

network = VdmUNet(
  VdmSettings(
    channels=32,
    channel_mults=(1, 2),  # Two levels,
    blocks=1,
    patch=2,  # of 8x8 and 4x4 patches of 2x2 pixels;
    attention_resolutions=(4,),  # attention at the coarser one.
    head_dim=32,
    embedding_dim=128,
    mlp_layers=2,
    conv_time=True,
    num_labels=DIGITS,
    out_channels=CHANNELS,
  )
)
levels = schedule.CosineSchedule(logsnr_min=-20.0, logsnr_max=20.0)
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-3, b2=0.99))


def clips_of_digits():
  """Reads all training clips, uint8 [N, T, H, W, C], and their digits [N]."""
  vdm.data.build(DATA)
  source = vdm.data.load(DATA, split="train")
  frames = np.arange(FRAMES)
  found = source.read_many([(n, frames) for n in range(source.num_videos)])
  return np.stack([clip["frames"] for clip in found]), np.asarray(source.labels)


def all_latent(batch):
  """Makes frames of clips of which nothing is given: all are to be sampled."""
  shape = (batch, FRAMES)
  return vdm.Frames(
    index=jnp.broadcast_to(jnp.arange(FRAMES), shape),
    observed=jnp.zeros(shape, bool),
    latent=jnp.ones(shape, bool),
    group=jnp.zeros(shape, jnp.int32),  # All frames of a clip may see each other.
  )


def objective(params, clips, labels, key):
  """Computes the error of v at a random level of noise (VDM, section 2)."""
  times, noises, hidden = jax.random.split(key, 3)
  x = to_float(clips)
  u = schedule.stratified_times(jax.random.uniform(times), len(x))
  level = levels.sample(u)
  eps = jax.random.normal(noises, x.shape)
  z = process.forward(x, eps, level)
  # Without a label one time in ten: what guidance needs (-1 is no label).
  labels = jnp.where(jax.random.bernoulli(hidden, 0.1, labels.shape), -1, labels)
  cond = {"label": labels[:, None]}
  prediction = network.apply({"params": params}, z, level, all_latent(len(x)), cond)
  return loss.denoising_loss(
    "v", prediction, x, eps, level, where=None, normalise="all"
  ).mean


@jax.jit
def step(params, average, state, clips, labels, key):
  """Updates parameters, their average and the optimizer's state once."""
  value, gradient = jax.value_and_grad(objective)(params, clips, labels, key)
  updates, state = optimizer.update(gradient, state, params)
  params = optax.apply_updates(params, updates)
  average = optax.incremental_update(params, average, 0.005)
  return params, average, state, value


@jax.jit
def sample(params, labels, key, weight):
  """Samples clips [B, T, H, W, C] in [-1, 1] by 64 ancestral steps with guidance."""
  frames = all_latent(len(labels))

  def denoiser(labels):
    def denoise(z, level):
      level = jax.tree.map(lambda a: jnp.broadcast_to(a, z.shape[:1]), level)
      cond = {"label": labels[:, None]}
      output = network.apply({"params": params}, z, level, frames, cond)
      return process.from_output("v", output, z, level)

    return denoise

  guided = guidance.classifier_free(
    denoiser(labels), denoiser(jnp.full_like(labels, -1)), weight
  )
  keys = jax.random.split(key, (2, len(labels)))
  shape = (len(labels), FRAMES, HEIGHT, WIDTH, CHANNELS)
  return sampler.sample(
    guidance.threshold_static(guided),
    sampler.Ancestral(gamma=0.1),
    levels.grid(64),
    noise.normal(keys[0], shape),
    key=keys[1],
  ).x


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seconds", type=float, default=300, help="of training")
  parser.add_argument("--out", default="digits.gif")
  args = parser.parse_args()
  clips, digits = clips_of_digits()
  rng, key = np.random.default_rng(0), jax.random.key(0)
  level = levels.sample(jnp.full(1, 0.5))
  params = network.init(
    key, to_float(clips[:1]), level, all_latent(1), {"label": jnp.zeros((1, 1), int)}
  )["params"]
  average, state = params, optimizer.init(params)
  start, number = time.monotonic(), 0
  while time.monotonic() - start < args.seconds:
    rows = rng.integers(len(clips), size=BATCH)
    params, average, state, value = step(
      params, average, state, clips[rows], digits[rows], jax.random.fold_in(key, number)
    )
    if number % 100 == 0:
      print(f"step {number}: loss {float(value):.4f}", flush=True)
    number += 1
  videos = to_uint8(sample(average, jnp.arange(DIGITS), jax.random.key(1), 0.5))
  strip = np.concatenate(videos, axis=2)  # Side by side.
  vdm.data.video.write_gif(args.out, strip, fps=8, scale=4)
  print(f"{number} steps; look at {args.out}")


if __name__ == "__main__":
  main()
