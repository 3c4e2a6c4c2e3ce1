"""Compiles one attention layer for an absent TPU: memory, traffic, estimates.

    python -m benchmarks.attention_layers space 2 24 32 512 64 splash
    python -m benchmarks.attention_layers joint 8 16 16 384 96 chunked
    python -m benchmarks.attention_layers time 2 24 32 512 64 pallas --forward

Arguments: over space in each frame, over all frames as one sequence, or over time;
videos, frames, height (and width), channels, width of a head, implementation. Compiled
with full effort in bfloat16: norm, dense layers and attention, value and derivatives.
Needs the extra `tpu` or `test` (libtpu); no TPU.
"""

import argparse
import os

from vdm_jax.preflight import cycles, flops, hlo, topology


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("kind", choices=("space", "joint", "time"))
  for name in ("videos", "frames", "height", "channels", "head"):
    parser.add_argument(name, type=int)
  parser.add_argument("implementation")
  parser.add_argument("--forward", action="store_true", help="without derivatives")
  parser.add_argument("--chip", default="v5e:1x1")
  args = parser.parse_args()
  target = topology.parse(args.chip)
  os.environ.update(topology.environment(target))

  import jax
  import jax.numpy as jnp

  from vdm_jax import frames as frames_lib
  from vdm_jax import sharding
  from vdm_jax.models import attention, layers

  shape = (args.videos, args.frames, args.height, args.height, args.channels)
  x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
  given = (x,)
  if args.kind == "time":
    layer = attention.TimeAttention(
      args.head,
      layers.PER_FRAME,
      implementation=args.implementation,
      dtype=jnp.bfloat16,
    )
    given += (jax.eval_shape(lambda: frames_lib.clip(args.videos, args.frames)),)
  else:
    joint = args.kind == "joint"
    layer = attention.SpaceAttention(
      args.head,
      layers.PER_VIDEO if joint else layers.PER_FRAME,
      args.implementation,
      jnp.bfloat16,
      joint=joint,
    )
  params = jax.eval_shape(lambda *given: layer.init(jax.random.key(0), *given), *given)

  def forward(params, cotangent, *given):
    return layer.apply(params, *given)

  def both(params, cotangent, x, *rest):
    out, back = jax.vjp(lambda p, x: layer.apply(p, x, *rest), params, x)
    return out, back(cotangent)

  mesh = sharding.make_mesh(devices=topology.devices(target))
  whole, rows = sharding.replicated(mesh), sharding.batch(mesh)
  step = sharding.jit(
    forward if args.forward else both,
    mesh,
    in_shardings=(whole, *[rows] * (1 + len(given))),
  )
  arguments = (params, x, *given)
  compiled = step.lower(*arguments).compile()
  module = hlo.Module(compiled.as_text())
  work = flops.count(step, *arguments)
  found = cycles.estimate(module, target.chip, 1, work)
  memory = compiled.memory_analysis()
  print(
    f"temporaries {memory.temp_size_in_bytes / 2**20:.0f} MiB, traffic "
    f"{module.traffic() / 1e9:.2f} GB, estimate {found['ms']:.1f} ms "
    f"(not in it: {found['without'] or 'nothing'})"
  )


if __name__ == "__main__":
  main()
