"""Flags and set-up that several commands share."""

import contextlib
import ctypes
import glob
import hashlib
import importlib.util
import json
import os
import pkgutil
import platform
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags, logging
from etils import epath
from ml_collections import config_flags

from vdm_jax import configs, user_files
from vdm_jax.errors import UserError

# Size limit of the compiled programs on disk; the least recently used go first.
_CACHE_BYTES = 2 << 30

_CONFIGS: set[str] = set()  # Flags that name a config.

PLATFORM = flags.DEFINE_enum(
  "platform",
  None,
  ["cpu", "gpu", "tpu"],
  "Kind of device to use, which must be present.",
)
COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  "",
  "Folder for compiled programs, local or gs://, so that each compiles once; '' is one "
  "in the user's cache or, for several processes, in the workdir, which all hosts see; "
  "'off' keeps none.",
)
CPU_DEVICES = flags.DEFINE_integer(
  "cpu_devices", 0, "Number of virtual CPU devices; 0: one per core.", lower_bound=0
)


def define_config(default: str | None = None, name: str = "config") -> flags.FlagHolder:
  """Defines the --config flag with --config.a.b=value overrides.

  Args:
    default: name of a config, with its argument after a colon.
    name: name of the flag.
  """
  _CONFIGS.add(name)
  return config_flags.DEFINE_config_file(
    name,
    None if default is None else _file_of(default),
    f"Config: a name, for example {default or 'vdm_digits'}, or the path of a file.",
  )


def named_configs(words: Sequence[str]) -> list[str]:
  """Replaces the names of configs on a command line by their files.

  `--config=vdm_ucf101:chips=8` becomes `--config=PATH/vdm_ucf101.py:chips=8`; a name
  with a folder or a suffix is already a path.

  Raises:
    UserError: there is no config of that name.
  """
  found = list(words)
  for number, word in enumerate(words):
    flag, equals, value = word.partition("=")
    if not flag.startswith("-") or flag.lstrip("-") not in _CONFIGS:
      continue
    if equals:
      found[number] = f"{flag}={_file_of(value)}"
    elif number + 1 < len(found):
      found[number + 1] = _file_of(words[number + 1])
  return found


def _file_of(name: str) -> str:
  """Returns the file of a config's name, with its argument; a path is kept."""
  stem, colon, argument = name.partition(":")
  is_path = not stem or stem.endswith(".py") or "/" in stem or os.sep in stem
  return name if is_path else f"{configs.path(stem)}{colon}{argument}"


def config_dict(holder: flags.FlagHolder) -> dict[str, Any]:
  """Returns the config with all overrides, as plain dicts.

  Raises:
    UserError: no config was given.
  """
  if holder.value is None:
    raise UserError(
      f"--{holder.name}: expected a config, for example vdm_digits; there are "
      f"{', '.join(configs.names())}"
    )
  try:
    return json.loads(holder.value.to_json_best_effort())
  except OSError as error:
    raise UserError(f"--{holder.name}: {' '.join(str(error).split())}") from error


def define_json() -> flags.FlagHolder:
  """Defines the --json flag."""
  return flags.DEFINE_bool("json", False, "Print JSON, for scripts.")


def start_jax(devices: bool = True, programs: str = "") -> None:
  """Starts JAX on the chosen devices; on CPU every core becomes a device.

  XLA's CPU convolutions run on one thread at narrow widths, so that only one device per
  core, with the batch split over them, uses the whole machine.

  Args:
    devices: whether to look for devices; JAX cannot join other processes afterwards.
    programs: folder for compiled programs, unless the user names one.

  Raises:
    UserError: the requested platform has no device here.
  """
  logging.set_verbosity(logging.ERROR)  # Orbax and TFDS log every file.
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
  jax.config.update("jax_num_cpu_devices", CPU_DEVICES.value or min(cores, 8))
  _keep_programs(COMPILATION_CACHE.value, programs)
  if PLATFORM.value is None and _only_cpu():
    jax.config.update("jax_platforms", "cpu")
  if PLATFORM.value:
    name = {"gpu": "cuda"}.get(PLATFORM.value, PLATFORM.value)
    jax.config.update("jax_platforms", name)
  if not devices:
    return
  try:
    found = jax.devices()
  except RuntimeError as error:
    if PLATFORM.value:
      raise UserError(
        f"--platform={PLATFORM.value}: no such device here. Install the matching extra "
        f"(vdm_jax[cuda] or vdm_jax[tpu]) or leave the flag out ({error})"
      ) from error
    asked = os.environ.get("JAX_PLATFORMS", "")
    asked = f", as JAX_PLATFORMS={asked} asks for it" if asked else ""
    raise UserError(f"JAX cannot use a device{asked}: {error}") from error
  if found[0].platform == "cpu":
    _keep_freed_memory()
  kinds = sorted({device.device_kind for device in found})
  print(
    f"vdm-jax: {len(found)} {found[0].platform} device(s): {', '.join(kinds)}",
    file=sys.stderr,
  )


def _keep_programs(folder: str, shared: str) -> None:
  """Makes JAX keep compiled programs on disk and look for them there.

  Of several processes only the first writes, so all need the same folder: if each host
  had its own, a resumed run would wait for all the others to compile.
  """
  if folder == "off":
    jax.config.update("jax_enable_compilation_cache", False)
    return
  if not folder and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    # Programs depend on the processor's instructions, and clusters may share a home.
    if shared:
      folder = str(epath.Path(shared) / "programs" / _processor())
    else:
      folder = str(user_files.cache("programs", _processor()))
  if folder:
    jax.config.update("jax_compilation_cache_dir", folder)
  # Programs that compile in less time are not worth a file.
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
  # A size limit needs a lock at each access, for which others would wait; and in a
  # bucket, a killed process would never release it.
  alone = not shared and "://" not in (jax.config.jax_compilation_cache_dir or "")
  jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES if alone else -1)


def _processor() -> str:
  """Names the kind of this machine's processor."""
  kind = platform.machine()
  with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
    lines = {line for line in file if line.startswith(("flags", "Features"))}
    kind += "-" + hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:8]
  return kind


def _only_cpu() -> bool:
  """Returns whether JAX would search for a TPU or a GPU, at length and in vain.

  For `preflight` the wheels of libtpu and of the CUDA plugin are also installed on
  machines without a TPU or a GPU.
  """
  tpu = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
  card = glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dxg")
  found = importlib.util.find_spec("jax_plugins")
  paths = found.submodule_search_locations if found else None
  plugins = {module.name for module in pkgutil.iter_modules(paths or ())}
  cuda = {name for name in plugins if name.startswith("xla_cuda")}
  named = os.environ.get("JAX_PLATFORMS")
  if tpu or card or named or plugins - cuda:
    return False
  return bool(cuda or importlib.util.find_spec("libtpu"))


def _keep_freed_memory() -> None:
  """Makes glibc keep the memory that a step frees for the next one, in one arena.

  XLA allocates its buffers anew at every call; returning large ones to the kernel and
  faulting them in again took a tenth of a small training step (0.29 s against 0.26 s
  for configs/vdm_digits.py on two cores). Without glibc this has no effect.
  """
  options = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
             "M_TOP_PAD": (-2, 256 << 20), "M_ARENA_MAX": (-8, 1)}  # fmt: skip
  with contextlib.suppress(OSError, AttributeError):
    libc = ctypes.CDLL("libc.so.6")
    for number, value in options.values():
      libc.mallopt(number, value)


def frame_range(text: str, flag: str) -> list[int]:
  """Parses '0:4' or '0,4,8' to a list of frame numbers.

  Raises:
    UserError: the text has neither form.
  """
  try:
    if ":" in text:
      first, last = text.split(":")
      return list(range(int(first or 0), int(last)))
    return [int(part) for part in text.split(",") if part]
  except ValueError:
    raise UserError(
      f"--{flag}={text}: expected a range such as 0:4 or a list such as 0,4,8"
    ) from None
