"""One environment for the whole suite.

Three marks split it: a plain `pytest` runs none of them, CI runs `golden` and
`integration` as well, and `slow` is for who asks for it.

Eight virtual CPU devices, so that every test may shard; one compilation cache,
shared by the workers of pytest-xdist and gone with the run. Nothing is written
into the checkout.
"""

import importlib.metadata
import os
import pathlib
import shutil
import sys
import tempfile

import pytest
from packaging import version

# Before jax is imported: of this process and of those that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The suite compiles much and computes little: LLVM's optimisations cost half its time,
# and the older XLA's emitters of fusions half of what is left (newer ones know no such
# flag).
FLAGS = ["--xla_backend_optimization_level=0"]
if version.parse(importlib.metadata.version("jaxlib")) < version.parse("0.11"):
  FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

import jax  # noqa: E402
import jaxtyping  # noqa: E402

from tests import annotations  # noqa: E402

# Before vdm_jax is imported.
jaxtyping.install_import_hook(annotations.PACKAGES, "tests.annotations.check")

NUM_DEVICES = 8
jax.config.update("jax_num_cpu_devices", NUM_DEVICES)


def pytest_configure(config: pytest.Config) -> None:
  """Shares one compilation cache; deselects marked tests unless `-m` asks for them."""
  # A test that is asked for by its name is run whatever its mark.
  if not config.option.markexpr and not any("::" in name for name in config.args):
    config.option.markexpr = "not (golden or integration or slow)"
  cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
  # Workers inherit the environment of the process that starts them, and so the
  # folder it makes.
  if cache is None:
    cache = tempfile.mkdtemp(prefix="vdm_jax_test_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    config.add_cleanup(lambda: os.environ.pop("JAX_COMPILATION_CACHE_DIR", None))
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
  jax.config.update("jax_compilation_cache_dir", cache)
  jax.config.update(
    "jax_persistent_cache_min_compile_time_secs",
    float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"]),
  )


@pytest.fixture
def checkout() -> pathlib.Path:
  """The root of the repository."""
  return pathlib.Path(__file__).resolve().parents[1]
