"""Times formulations of a 2-D convolution against each other, on CPU.

    python -m benchmarks.conv --devices 2
    python -m benchmarks.conv --shapes 128x16x32 64x32x32 --what dk --repeats 21

Every shape is images x side x channels, of a 3x3 convolution of stride one. `y` is
the output, `dx` the gradient of the input, `dk` that of the kernel:

- `xla`: plain `lax.conv_general_dilated` and its gradients.
- `conv2d`: what `vdm_jax.models.conv` takes for the shape.
- `rows`, `matmul`: its two formulations of the kernel gradient.
- `patches`: all patches, then one matrix product.
- `shifts`: nine products of shifted slices.
- `torch`: PyTorch in channels-last, where it is installed. It runs last, not in
  turn: its threads would spin beside those of XLA.

The others take turns, so that another job on the machine slows all of them alike.
Shown are medians, milliseconds and GFLOP/s, and the median of the ratios to `xla`
within a turn, which is what to trust on a busy machine. `user` and `sys` are
milliseconds of processor time: `sys` is mostly page faults of fresh buffers, and
`GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment removes most of them.

With more than one device the batch is sharded over them and the kernel is not.
"""

import argparse
import functools
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vdm_jax.models import conv

SHAPES = (
  "128x16x32 128x8x64 128x4x128 64x32x32 160x32x64 "
  "10x64x64 10x32x128 10x16x256 10x8x512"
).split()
PADS = ((1, 1), (1, 1))


def plain(x, kernel):
  layout = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(x, kernel, (1, 1), PADS, dimension_numbers=layout)


def slices(x):
  """Returns nine shifted copies of x [N, H, W, C], each [N * H * W, C]."""
  _, h, w, c = x.shape
  x = jnp.pad(x, ((0, 0), *PADS, (0, 0)))
  shifts = [(i, j) for i in range(3) for j in range(3)]
  return [x[:, i : i + h, j : j + w].reshape(-1, c) for i, j in shifts]


def patches(x, kernel):
  y = jnp.concatenate(slices(x), -1) @ kernel.reshape(-1, kernel.shape[-1])
  return y.reshape(*x.shape[:-1], -1)


def shifts(x, kernel):
  parts = zip(slices(x), kernel.reshape(9, *kernel.shape[2:]), strict=True)
  return sum(part @ k for part, k in parts).reshape(*x.shape[:-1], -1)


def input_gradient(forward, dy, kernel):
  """Computes the gradient of x, which is a convolution itself."""
  return forward(dy, kernel[::-1, ::-1].swapaxes(2, 3))


def patches_dk(x, dy):
  flat = dy.reshape(-1, dy.shape[-1])
  return (jnp.concatenate(slices(x), -1).T @ flat).reshape(3, 3, -1, dy.shape[-1])


def shifts_dk(x, dy):
  flat = dy.reshape(-1, dy.shape[-1])
  dk = jnp.stack([part.T @ flat for part in slices(x)])
  return dk.reshape(3, 3, *dk.shape[1:])


def own_dk(gradient, x, dy):
  """Computes a kernel gradient of `conv`; None is the one that its rule chooses."""
  shape = (3, 3, x.shape[-1], dy.shape[-1])
  gradient = gradient or conv.cpu_gradient(x.shape, shape, dy.shape, (1, 1))
  return gradient(x, dy, shape=shape, strides=(1, 1), pads=PADS)


def formulations(what):
  """Maps names to functions.

  They take (x, kernel) for y, (dy, kernel) for dx and (x, dy) for dk.
  """
  own = functools.partial
  if what == "dk":
    return {
      "xla": own(own_dk, conv.plain_gradient),
      "conv2d": own(own_dk, None),
      "rows": own(own_dk, conv.rows_gradient),
      "matmul": own(own_dk, conv.matmul_gradient),
      "patches": patches_dk,
      "shifts": shifts_dk,
    }
  table = {"xla": plain, "patches": patches, "shifts": shifts}
  if what == "y":
    return table
  table = {name: own(input_gradient, f) for name, f in table.items()}
  # The convolution is linear in x, so the value of x does not matter.
  return table | {
    "xla": lambda dy, k: jax.linear_transpose(lambda x: plain(x, k), dy)(dy)[0]
  }


def measure(call):
  """Measures the seconds of one call: wall, user, system."""
  before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
  call()
  wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
  return wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime


def torch_times(what, arrays, threads, repeats):
  """Measures PyTorch; returns None where it is not installed.

  Args:
    what: 'y', 'dx' or 'dk'.
    arrays: numpy x, kernel and dy, laid out as XLA's.
    threads: of PyTorch.
    repeats: number of measurements.

  Returns:
    [repeats, 3].
  """
  try:
    import torch
  except ImportError:
    return None
  torch.set_num_threads(threads)
  x, kernel, dy = map(torch.from_numpy, arrays)
  x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)  # A view: channels-last.
  kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
  one, mask = [1, 1], [what == "dx", what == "dk", False]

  def call():
    if what == "y":
      return torch.nn.functional.conv2d(x, kernel, padding=1)
    return torch.ops.aten.convolution_backward(
      dy, x, kernel, None, one, one, one, False, [0, 0], 1, mask
    )

  call()
  return np.array([measure(call) for _ in range(repeats)])


def compare(what, shape, mesh, repeats):
  """Prints the table of one shape."""
  n, side, c = shape
  split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
  rng = np.random.default_rng(0)
  x, dy = rng.standard_normal((2, n, side, side, c), np.float32)
  kernel = rng.standard_normal((3, 3, c, c), np.float32) / (9 * c) ** 0.5
  first, second = {"y": (x, kernel), "dx": (dy, kernel), "dk": (x, dy)}[what]
  args = (
    jax.device_put(first, split),
    jax.device_put(second, split if what == "dk" else whole),
  )
  programs, expected = {}, None
  for name, f in formulations(what).items():
    program = jax.jit(f, out_shardings=whole if what == "dk" else split)
    found = np.asarray(program(*args))
    expected = found if expected is None else expected
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if error > 1e-4:
      raise AssertionError(f"{name} differs from xla by {error:.1e}")
    programs[name] = lambda program=program: program(*args).block_until_ready()
  turns = [[measure(call) for call in programs.values()] for _ in range(repeats)]
  times = dict(zip(programs, np.array(turns).swapaxes(0, 1), strict=True))
  ratios = {k: np.median(times["xla"][:, 0] / t[:, 0]) for k, t in times.items()}
  other = torch_times(what, (x, kernel, dy), mesh.size, repeats)
  if other is not None:
    times["torch"] = other
  operations = 2 * 9 * c * c * n * side * side
  for name, t in times.items():
    wall, user, system = np.median(t, 0) * 1e3
    ratio = f"{ratios[name]:6.2f}" if name in ratios else "     -"
    print(
      f"{n}x{side}x{c:<6} {what:3} {name:8} {wall:9.2f} {operations / wall / 1e6:9.0f}"
      f" {ratio} {user:8.1f} {system:7.1f}",
      flush=True,
    )


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="NxHxC")
  parser.add_argument("--what", nargs="+", choices=("y", "dx", "dk"), default=["dk"])
  parser.add_argument("--devices", type=int, default=2, help="virtual CPU devices")
  parser.add_argument("--repeats", type=int, default=11)
  args = parser.parse_args()
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", args.devices)
  mesh = Mesh(np.array(jax.devices()), ("data",))
  print(f"{'shape':12} {'of':3} {'form':8} {'ms':>9} {'GFLOP/s':>9} ", end="")
  print(f"{'x xla':>6} {'user':>8} {'sys':>7}")
  for shape in args.shapes:
    for what in args.what:
      compare(what, tuple(map(int, shape.split("x"))), mesh, args.repeats)


if __name__ == "__main__":
  main()
