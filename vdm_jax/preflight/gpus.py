"""Compilation for absent GPUs, which XLA does from a description of the card.

The wheels of JAX's CUDA plugin contain the compiler, and `nvidia-cuda-nvcc` the
assembler `ptxas`. Kernels are usually chosen by timing them on the card, and a
convolution's workspace is known only then. Here nothing is timed, and workspaces count
as empty.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Sequence

from vdm_jax.errors import UserError
from vdm_jax.preflight import chips

# Largest number of cards per host.
_PER_HOST = 8
_FLAGS = (
  "--xla_gpu_autotune_level=0",
  "--xla_gpu_shard_autotuning=false",
  # Triton's products need tile sizes, which only timing gives.
  "--xla_gpu_enable_triton_gemm=false",
)
_PLUGIN = "jax-cuda12-plugin"
_INSTALL = (
  "install the extra cuda-preflight: make venv EXTRAS=test,video,cuda-preflight, or "
  "pip install -c constraints.txt -e '.[cuda-preflight]'"
)
# Limits that are the same for all cards of compute capability 8.0 to 9.0, by the CUDA
# C++ programming guide. Versions are those of the libraries in the wheels.
_DESCRIPTION = """gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {optin}
  shared_memory_per_core: {card.shared}
  core_count: {card.multiprocessors}
  fpus_per_core: {card.lanes}
  clock_rate_ghz: {ghz}
  memory_bandwidth: {card.bandwidth:.0f}
  device_memory_size: {card.hbm}
  l2_cache_size: {card.l2}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{card.name}"
"""


def describe(card: chips.Gpu) -> str:
  """Formats the card as XLA's `GpuTargetConfigProto`, in text."""
  major, minor = card.capability
  return _DESCRIPTION.format(
    card=card,
    optin=card.shared - 1024,
    ghz=card.clock / 1e9,
    major=major,
    minor=minor,
  )


def hosts(name: str, shape: Sequence[int]) -> tuple[int, int]:
  """Parses (hosts, cards of each) of 'h100:8', 'h100:16' or 'h100:2x8'.

  Raises:
    UserError: the number of cards is not that of whole hosts.
  """
  if len(shape) == 1 and shape[0] > _PER_HOST and shape[0] % _PER_HOST == 0:
    shape = (shape[0] // _PER_HOST, _PER_HOST)
  elif len(shape) == 1:
    shape = (1, *shape)
  if len(shape) != 2 or 0 in shape or shape[1] > _PER_HOST:
    generation = name.partition(":")[0]
    raise UserError(
      f"`topology={name}`: expected {generation}:CARDS, up to {_PER_HOST} or a "
      f"multiple of {_PER_HOST}, or {generation}:HOSTSxCARDS with up to {_PER_HOST} "
      "cards a host"
    )
  return tuple(shape)


def environment() -> dict[str, str]:
  """Returns the variables for a process that compiles for GPUs."""
  return {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "XLA_FLAGS": " ".join(filter(None, [os.environ.get("XLA_FLAGS"), *_FLAGS])),
  }


def check_compiler() -> None:
  """Raises UserError if the compiler for GPUs is not installed."""
  missing = [
    name
    for name, module in (
      (_PLUGIN, "jax_cuda12_plugin"),
      ("jax-cuda12-pjrt", "jax_plugins.xla_cuda12"),
    )
    if not _installed(module)
  ]
  if not (_installed("nvidia.cuda_nvcc") or shutil.which("ptxas")):
    missing.append("nvidia-cuda-nvcc-cu12")
  if missing:
    raise UserError(
      f"preflight for GPUs needs a compiler, not found: {', '.join(missing)}; "
      f"{_INSTALL}"
    )
  found, wanted = (importlib.metadata.version(name) for name in (_PLUGIN, "jax"))
  if found != wanted:
    raise UserError(
      f"preflight for GPUs: expected {_PLUGIN} {wanted}, as jax is, found {found}; "
      f"{_INSTALL}"
    )


def remarks() -> list[str]:
  """Returns remarks on figures for GPUs."""
  found = [
    "memory is a lower bound: cuDNN's workspaces are known only on a card and count as "
    "empty here; usable memory is what JAX takes of a card "
    "(XLA_PYTHON_CLIENT_MEM_FRACTION, 0.75 if unset)"
  ]
  if not _installed("nvidia.cudnn"):
    found.append(
      "without cuDNN, attention is compiled in pieces; on a card, half precision uses "
      "cuDNN's kernel, which takes less memory. To compile with it: "
      "pip install --no-deps nvidia-cudnn-cu12"
    )
  return found


def devices(card: chips.Gpu, hosts: int, cards: int):
  """Makes the devices to compile for; the variables of `environment` must be set.

  Raises:
    UserError: the compiler does not support them.
  """
  from jax.experimental import topologies

  try:
    return topologies.get_topology_desc(
      platform="cuda", topology=f"1x{hosts}x{cards}", target_config=describe(card)
    ).devices
  except Exception as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"preflight: the compiler refuses {hosts} x {cards} {card.name} ({reason}); one "
      f"that it takes: `topology={card.example}`"
    ) from error


def _installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False
