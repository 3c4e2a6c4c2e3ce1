"""Compiles the kernels, values and derivatives, for absent TPUs.

`python -m tests.models.compile_kernels`, in a process of its own with
`topology.environment`; prints a line for each and stops at the first that fails.
"""

import jax
import jax.numpy as jnp

from vdm_jax import sharding
from vdm_jax.models.kernels import over_time, rows, splash
from vdm_jax.preflight import topology

SLICES = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")
HALF, FULL = jnp.bfloat16, jnp.float32
# Tokens, heads, head width: of VDM, RaMViD, a length that is filled up, and the limits.
OVER_SPACE = [
  (1024, 8, 64, HALF),
  (5120, 4, 96, HALF),
  (1100, 2, 16, HALF),
  (1024, 2, 128, FULL),
  (1024, 2, 256, FULL),
]
# Frames, pixels, channels, head width.
OVER_TIME = [
  (24, 1024, 512, 64, HALF),
  (24, 64, 2048, 64, HALF),
  (16, 36, 384, 96, HALF),
  (24, 64, 512, 64, FULL),
]


def space(count, tokens, heads, head_dim, dtype):
  x = jax.ShapeDtypeStruct((count, tokens, heads, head_dim), dtype)

  def both(q, k, v):
    out, back = jax.vjp(splash.attend, q, k, v)
    return jnp.stack([out, *back(out)], axis=1)

  return both, (x, x, x)


def time(count, frames, pixels, channels, head_dim, dtype):
  assert over_time.takes(frames, pixels, channels, head_dim, dtype)
  relative = jax.ShapeDtypeStruct((count, frames, frames, head_dim), dtype)
  qkv = jax.ShapeDtypeStruct((count, frames, pixels, 3 * channels), dtype)
  attends = jax.ShapeDtypeStruct((count, frames, frames), bool)

  def both(qkv, rel_k, rel_v, attends):
    def attend(*args):
      return over_time.attend(*args, attends, head_dim=head_dim)

    out, back = jax.vjp(attend, qkv, rel_k, rel_v)
    return sum(x.sum((1, 2, 3), dtype=jnp.float32) for x in (out, *back(out)))

  return both, (qkv, relative, relative, attends)


def main() -> None:
  jax.config.update("jax_optimization_level", "O0")
  jax.config.update("jax_enable_compilation_cache", False)
  for name in SLICES:
    mesh = sharding.make_mesh(devices=topology.devices(topology.parse(name)))
    place = sharding.batch(mesh)
    for build, shapes in ((space, OVER_SPACE), (time, OVER_TIME)):
      for shape in shapes:
        both, args = build(mesh.size, *shape)

        def on_rows(*args, both=both):
          return rows.map_devices(both, *args)

        program = sharding.jit(on_rows, mesh, in_shardings=(place,) * len(args))
        text = program.lower(*args).compile().as_text()
        print(name, build.__name__, *shape[:-1], text.count("tpu_custom_call"))


if __name__ == "__main__":
  main()
